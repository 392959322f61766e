//! Where recordings lie when nobody says: `$XDG_STATE_HOME/nodetap/<ULID>`, else `~/.local/state/nodetap/<ULID>`.

use std::io;
use std::path::{Path, PathBuf};

use nodetap_core::ulid::Ulid;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("neither XDG_STATE_HOME nor HOME is set: say where the records are with --from DIR")]
    NoHome,
    #[error("nothing is recorded in {0} yet: record with `nodetap run -- CMD`, or name a folder with --from DIR")]
    Nothing(PathBuf),
    #[error("{0} cannot be read: {1}; name another folder with --from DIR, or run as the user who recorded it")]
    Unreadable(PathBuf, io::Error),
}

/// The folder of recordings, by the two variables' values. A relative `XDG_STATE_HOME` is ignored, as its
/// specification demands.
pub fn base(xdg_state_home: Option<&Path>, home: Option<&Path>) -> Result<PathBuf, Error> {
    let state = match (xdg_state_home.filter(|path| path.is_absolute()), home) {
        (Some(state), _) => state.to_owned(),
        (None, Some(home)) if !home.as_os_str().is_empty() => home.join(".local/state"),
        _ => return Err(Error::NoHome),
    };
    Ok(state.join("nodetap"))
}

/// As [`base`], from this process's environment.
pub fn default_base() -> Result<PathBuf, Error> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    base(variable("XDG_STATE_HOME").as_deref(), variable("HOME").as_deref())
}

/// The newest recording below a folder: the last by name of those that are called like a ULID.
pub fn newest(base: &Path) -> Result<PathBuf, Error> {
    let entries = match std::fs::read_dir(base) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Nothing(base.to_owned())),
        Err(error) => return Err(Error::Unreadable(base.to_owned(), error)),
    };
    let recordings = entries.filter_map(Result::ok).filter_map(|entry| {
        let id: Ulid = entry.file_name().to_str()?.parse().ok()?;
        entry.path().is_dir().then(|| (id, entry.path()))
    });
    recordings.max().map(|(_, path)| path).ok_or_else(|| Error::Nothing(base.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_home_wins_when_it_is_absolute() {
        let path = |text| Some(Path::new(text));
        assert_eq!(base(path("/s"), path("/h")).unwrap(), Path::new("/s/nodetap"));
        assert_eq!(base(path("s"), path("/h")).unwrap(), Path::new("/h/.local/state/nodetap"));
        assert_eq!(base(path(""), path("/h")).unwrap(), Path::new("/h/.local/state/nodetap"));
        assert!(matches!(base(None, None), Err(Error::NoHome)));
    }

    #[test]
    fn the_newest_is_the_last_that_is_called_like_a_ulid() {
        let base = tempfile::tempdir().unwrap();
        assert!(matches!(newest(base.path()), Err(Error::Nothing(_))));
        for name in ["01KD3000000000000000000000", "01KD4000000000000000000000", "zzz"] {
            std::fs::create_dir(base.path().join(name)).unwrap();
        }
        std::fs::write(base.path().join("01KD5000000000000000000000"), "a file").unwrap();
        assert_eq!(newest(base.path()).unwrap(), base.path().join("01KD4000000000000000000000"));
    }
}
