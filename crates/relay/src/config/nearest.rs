//! The name that was probably meant.

/// The candidate nearest to `name`, unless none is near.
///
/// Near means that a third of the characters or fewer differ, or that one contains the other
/// (`bootstrap_servers`, `bootstrap`).
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = distance(&name, &candidate.to_ascii_lowercase())?;
            Some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

fn distance(name: &str, candidate: &str) -> Option<usize> {
    const SHORTEST_CONTAINED: usize = 4;
    let edits = strsim::osa_distance(name, candidate);
    let longest = name.chars().count().max(candidate.chars().count());
    let shorter = if name.len() < candidate.len() {
        name
    } else {
        candidate
    };
    let contained = shorter.len() >= SHORTEST_CONTAINED
        && (name.contains(candidate) || candidate.contains(name));
    (edits <= (longest / 3).max(1) || contained).then_some(edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let keys = ["max_events", "max_bytes", "max_wait", "bootstrap", "url"];
        let check = |name, expected| assert_eq!(nearest(name, keys), expected, "{name}");
        check("max_wiat", Some("max_wait"));
        check("MAX_BYTE", Some("max_bytes"));
        check("bootstrap_servers", Some("bootstrap"));
        check("max_wait_ms", Some("max_wait"));
        check("uri", Some("url"));
        check("compression", None);
        check("", None);
    }
}
