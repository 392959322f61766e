//! `nodetap doctor`: without a pod it checks this machine; with one, or with a namespace, it says of pods in a cluster what
//! is captured and what is not, why, and what mends it. It reads with the rights of whoever asks, and writes nothing.

mod cluster;
mod machine;
mod show;

use std::process::ExitCode;

use clap::ValueEnum;
use nodetap_core::mesh::snapshot::Settings;

use crate::commands::remote::{self, Access};
use crate::commands::{Failure, report};

/// Check whether this machine can run nodetap; or say of pods what is captured, and why not
#[derive(Debug, Clone, clap::Args)]
pub struct Doctor {
    /// A pod [default with --namespace: all of it]
    pod: Option<String>,
    /// The namespace of the pods [default with a pod: the context's]
    #[arg(short, long, value_name = "NS", conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// All pods of the cluster that ask for capture, worst first
    #[arg(short = 'A', long, conflicts_with = "pod")]
    all_namespaces: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
    /// The namespace that nodetap itself runs in
    #[arg(long, value_name = "NS", default_value = "nodetap")]
    nodetap_namespace: String,
    /// Istio's root namespace
    #[arg(long, value_name = "NS", default_value = "istio-system")]
    istio_root_namespace: String,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Whose pages.
#[derive(Debug, Clone, Copy)]
enum Which<'a> {
    Pod(&'a str, &'a str),
    Namespace(&'a str),
    All,
}

impl Doctor {
    /// Prints the page; exit code 1 when something is wrong.
    pub fn run(&self) -> ExitCode {
        if self.pod.is_none() && self.namespace.is_none() && !self.all_namespaces {
            return machine::run(self.output == Output::Json);
        }
        match self.pods() {
            Ok(0) => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(failure) => report(Err(failure)),
        }
    }

    /// Things that are wrong.
    fn pods(&self) -> Result<usize, Failure> {
        let remote::Connection { runtime, client, namespace } = self.access.connect()?;
        let namespace = self.namespace.clone().unwrap_or(namespace);
        let which = match &self.pod {
            Some(pod) => Which::Pod(&namespace, pod),
            None if self.all_namespaces => Which::All,
            None => Which::Namespace(&namespace),
        };
        let settings = Settings { root_namespace: self.istio_root_namespace.clone(), ..Settings::default() };
        let reader = cluster::Reader { client, ours: self.nodetap_namespace.clone(), settings };
        let mut pages = runtime.block_on(reader.pages(which))?;
        if let Which::All = which {
            pages.retain(|page| page.asked != Some(false) || page.wrong() > 0);
            pages.sort_by_key(|page| std::cmp::Reverse(page.wrong()));
        }
        show::pages(&pages, self.output == Output::Json)?;
        Ok(pages.iter().map(nodetap_core::checkup::Page::wrong).sum())
    }
}
