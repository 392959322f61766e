//! The cluster at one moment, listed with the rights of whoever asks once: for a dry run and for the doctor.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Service as ServiceObject;
use kube::Client;
use kube::api::{Api, ListParams};
use nodetap_core::mesh::snapshot::{Settings, Snapshot};

use super::objects::{IstioObject as _, PodObject, SidecarObject, SidecarV1, SidecarV1Beta1};
use super::{Version, known, read, version};
use crate::cluster::Connection;

/// What was listed, and one sentence for each part that may not be read.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) snapshot: Snapshot,
    pub(crate) hidden: Vec<String>,
}

/// Of one namespace, with what holds there from the root namespace; or of all. `None`: this cluster has no Sidecars.
///
/// # Errors
/// What the API server says.
pub(crate) async fn listed(
    connection: &Connection,
    namespace: Option<&str>,
    settings: &Settings,
) -> kube::Result<Option<Listed>> {
    Ok(match version(connection).await? {
        None => None,
        Some(Version::V1) => Some(of::<SidecarV1>(&connection.client, namespace, settings).await?),
        Some(Version::V1Beta1) => Some(of::<SidecarV1Beta1>(&connection.client, namespace, settings).await?),
    })
}

pub(super) async fn of<K: SidecarObject>(
    client: &Client,
    namespace: Option<&str>,
    settings: &Settings,
) -> kube::Result<Listed> {
    let mut hidden = Vec::new();
    let pods = all(api::<PodObject>(client, namespace)).await?;
    let services = all(api::<ServiceObject>(client, namespace)).await?;
    let mut sidecars = all(api::<K>(client, namespace)).await?;
    let routes = match all(api::<K::VirtualService>(client, namespace)).await {
        Ok(routes) => routes,
        Err(kube::Error::Api(status)) if status.code == 403 => {
            hidden.push(format!("VirtualServices may not be read, and are not judged: {}", status.message));
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    let root = &settings.root_namespace;
    if namespace.is_some_and(|namespace| namespace != root) {
        match all(Api::<K>::namespaced(client.clone(), root)).await {
            Ok(theirs) => sidecars.extend(theirs),
            Err(kube::Error::Api(status)) if status.code == 403 => hidden.push(format!(
                "the Sidecars of {root} may not be read, and one there may hold for this pod: {}",
                status.message
            )),
            Err(error) => return Err(error),
        }
    }
    let sidecars = sidecars.into_iter().filter_map(|object| {
        let (metadata, spec) = object.parts();
        read::sidecar(metadata, &spec)
    });
    let routes = routes.into_iter().filter_map(|object| {
        let (metadata, spec) = object.parts();
        read::virtual_service(metadata, &spec)
    });
    let pods = pods.into_iter().filter_map(read::pod).collect();
    let services = services.into_iter().filter_map(read::service).collect();
    Ok(Listed { snapshot: known::of_lists(pods, services, sidecars.collect(), routes.collect(), settings), hidden })
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// In pages, so that the server need not hold all at once.
///
/// # Errors
/// What the API server says.
pub(crate) async fn all<K>(api: Api<K>) -> kube::Result<Vec<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    const PAGE: u32 = 500;
    let (mut found, mut next) = (Vec::new(), None::<String>);
    loop {
        let mut params = ListParams::default().limit(PAGE);
        params.continue_token = next;
        let page = api.list(&params).await?;
        found.extend(page.items);
        next = page.metadata.continue_.filter(|token| !token.is_empty());
        if next.is_none() {
            return Ok(found);
        }
    }
}
