//! The archive: an OCI image layout (<https://github.com/opencontainers/image-spec>) in a tar file, with the `manifest.json`
//! that Docker reads instead.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::{Entry, Image, Source};

/// What Go calls this machine, as images do.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Bytes under the name of their hash.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: hex(&Sha256::digest(&bytes)), bytes }
    }

    fn of(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }

    fn descriptor(&self, kind: &str) -> Value {
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": format!("sha256:{}", self.digest), "size": self.bytes.len(),
        })
    }
}

pub(crate) fn write(image: &Image, to: &Path) -> Result<()> {
    let (layer, content) = layer(image)?;
    let mut said = json!({"Entrypoint": image.entry, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]});
    if let Some(user) = &image.user {
        said["User"] = json!(user);
    }
    let config = Blob::of(&json!({
        "architecture": ARCHITECTURE, "os": "linux", "config": said,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{content}")]},
    }));
    let manifest = Blob::of(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor("config.v1+json"), "layers": [layer.descriptor("layer.v1.tar+gzip")],
    }));
    let mut listed = manifest.descriptor("manifest.v1+json");
    let tag = image.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    listed["platform"] = json!({"architecture": ARCHITECTURE, "os": "linux"});
    listed["annotations"] = json!({"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": tag});
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [listed],
    });
    let for_docker = json!([{"Config": config.path(), "RepoTags": [image.name], "Layers": [layer.path()]}]);

    let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut archive = Builder::new(BufWriter::new(file));
    let mut add = |name: &str, bytes: &[u8]| {
        archive.append_data(&mut header(EntryType::Regular, 0o644, bytes.len() as u64), name, bytes)
    };
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json", index.to_string().as_bytes())?;
    add("manifest.json", for_docker.to_string().as_bytes())?;
    for blob in [&config, &manifest, &layer] {
        add(&blob.path(), &blob.bytes)?;
    }
    archive.into_inner()?.flush().with_context(|| format!("cannot write {}", to.display()))
}

/// The layer, and the hash of what it unpacks to.
fn layer(image: &Image) -> Result<(Blob, String)> {
    let packed = GzEncoder::new(Vec::new(), Compression::fast());
    let mut archive = Builder::new(Hashed { to: packed, hash: Sha256::new() });
    for (place, entry) in &image.entries {
        match entry {
            Entry::Folder { mode } => {
                archive.append_data(&mut header(EntryType::Directory, *mode, 0), place, io::empty())?;
            }
            Entry::Link(target) => archive.append_link(&mut header(EntryType::Symlink, 0o777, 0), place, target)?,
            Entry::File { source: Source::Bytes(bytes), mode } => {
                archive.append_data(&mut header(EntryType::Regular, *mode, bytes.len() as u64), place, &**bytes)?;
            }
            Entry::File { source: Source::File(source), mode } => {
                let bytes = std::fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
                archive.append_data(&mut header(EntryType::Regular, *mode, bytes.len() as u64), place, &*bytes)?;
            }
        }
    }
    let hashed = archive.into_inner()?;
    Ok((Blob::new(hashed.to.finish()?), hex(&hashed.hash.finalize())))
}

/// Neither time nor owner: root's, from the beginning of time.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes what passes.
struct Hashed<W> {
    to: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn written(image: &Image) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("image.tar");
        image.write(&place).unwrap();
        std::fs::read(place).unwrap()
    }

    #[test]
    fn the_order_of_additions_does_not_change_the_archive() {
        let one = Image::new("a/b:1").bytes("/etc/x", "x", 0o644).folder("/tmp", 0o1777).link("/bin/sh", "/x");
        let other = Image::new("a/b:1").link("/bin/sh", "/x").folder("/tmp", 0o1777).bytes("/etc/x", "x", 0o644);
        assert_eq!(written(&one), written(&other));
    }

    #[test]
    fn every_blob_is_what_its_name_says_and_the_layer_unpacks_to_the_files() {
        let image = Image::new("a/b:1").entrypoint(&["/bin/x"]).bytes("/bin/x", "program", 0o755);
        let bytes = written(&image);
        let mut archive = tar::Archive::new(&*bytes);
        let mut layers = 0;
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let Some(digest) = path.strip_prefix("blobs/sha256/") else { continue };
            assert_eq!(digest, hex(&Sha256::digest(&content)));
            if content.starts_with(&[0x1f, 0x8b]) {
                let mut layer = tar::Archive::new(flate2::read::GzDecoder::new(&*content));
                let names: Vec<String> = layer
                    .entries()
                    .unwrap()
                    .map(|entry| entry.unwrap().path().unwrap().display().to_string())
                    .collect();
                assert_eq!(names, ["bin", "bin/x"]);
                layers += 1;
            }
        }
        assert_eq!(layers, 1);
    }
}
