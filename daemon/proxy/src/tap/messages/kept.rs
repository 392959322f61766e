//! How bytes are kept: counted all, copied up to a cap, with memory that grows as they come. It refuses to know whose
//! bytes they are.

use nodetap_core::exchange::Body;

/// The most that is reserved before bytes have come to fill it: an announced length may lie.
const RESERVE_AHEAD: usize = 16 * 1024;

/// Counts `data` and keeps what fits below `cap`. `expected`: this many bytes are to come, if the sender is honest.
pub(in crate::tap) fn keep(body: &mut Body, data: &[u8], cap: usize, expected: Option<u64>) {
    body.size = body.size.saturating_add(data.len() as u64);
    let count = cap.saturating_sub(body.kept.len()).min(data.len());
    let Some(data) = data.get(..count).filter(|data| !data.is_empty()) else { return };
    if body.kept.capacity() - body.kept.len() < count {
        let room = cap - body.kept.len();
        let ahead = match expected {
            Some(expected) => usize::try_from(expected).unwrap_or(room).min(RESERVE_AHEAD.max(body.kept.len())),
            None => body.kept.len(),
        };
        body.kept.reserve_exact(ahead.max(count).min(room));
    }
    body.kept.extend_from_slice(data);
}
