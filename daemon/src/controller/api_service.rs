//! The APIService that makes the API server pass our group on to us: installed with the manifests, without the authority
//! that our certificate is checked against, because that is made here. One field of one object is written.

use k8s_openapi::ByteString;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use crate::query::{GROUP, VERSION};

/// Who wrote it, in the API server's words.
const MANAGER: &str = "nodetap-controller";

/// Writes the authority, where it is not there already.
///
/// # Errors
/// When it cannot be read or written: above all when there is no such APIService.
pub(super) async fn keep(client: Client, bundle: &str) -> Result<(), kube::Error> {
    let name = format!("{VERSION}.{GROUP}");
    let services = Api::<APIService>::all(client);
    let service = services.get(&name).await?;
    let known = service.spec.and_then(|spec| spec.ca_bundle);
    let bundle = ByteString(bundle.as_bytes().to_vec());
    if known.as_ref() == Some(&bundle) {
        return Ok(());
    }
    let patch = json!({"spec": {"caBundle": bundle}});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    services.patch(&name, &params, &Patch::Merge(patch)).await?;
    tracing::info!(name, "the API server knows our authority");
    Ok(())
}
