//! `nodetap pause` and `nodetap resume`: one switch for all capture of a cluster. Agents watch it; this only writes it.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::output::{Failure, report};
use super::remote::{Access, Connection, one_line};
use crate::cluster::pause::{KEY, NAME};

/// Who wrote it, in the API server's words.
const MANAGER: &str = "nodetap-pause";
/// Where nodetap is installed when nobody says otherwise.
const NAMESPACE: &str = "nodetap";

/// Stop all capture in a cluster at once, until `nodetap resume`
#[derive(Debug, Clone, Args)]
pub struct Pause {
    /// All of it: there is no half
    #[arg(long, required = true)]
    all: bool,
    #[command(flatten)]
    place: Place,
}

/// Go on with capture after `nodetap pause`
#[derive(Debug, Clone, Args)]
pub struct Resume {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Clone, Args)]
struct Place {
    /// The namespace that nodetap itself runs in
    #[arg(short, long, value_name = "NS", default_value = NAMESPACE)]
    namespace: String,
    #[command(flatten)]
    access: Access,
}

impl Pause {
    pub fn run(&self) -> ExitCode {
        report(self.place.write(true))
    }
}

impl Resume {
    pub fn run(&self) -> ExitCode {
        report(self.place.write(false))
    }
}

impl Place {
    fn write(&self, paused: bool) -> Result<(), Failure> {
        let Connection { runtime, client, .. } = self.access.connect()?;
        let maps = Api::<ConfigMap>::namespaced(client, &self.namespace);
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "labels": {"app.kubernetes.io/managed-by": "nodetap"}},
            "data": {KEY: paused.to_string()},
        });
        let params = PatchParams::apply(MANAGER).force();
        let written = runtime.block_on(maps.patch(NAME, &params, &Patch::Apply(map)));
        written.map_err(|error| match error {
            kube::Error::Api(status) => Failure::new(format!("{}: {}", self.what(), status.message)),
            error => Failure::new(format!("{}: {}", self.what(), one_line(&error))),
        })?;
        let said = if paused { "paused: no agent captures anything until `nodetap resume`" } else { "resumed" };
        Ok(writeln!(std::io::stdout(), "capture is {said}")?)
    }

    fn what(&self) -> String {
        format!("the ConfigMap {}/{NAME} cannot be written", self.namespace)
    }
}
