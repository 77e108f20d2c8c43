//! What a query string says. Names are found without regard to case, values are decoded as a browser would.

use crate::push::Region;

/// All values of `name`, in their order.
#[must_use]
pub fn values(query: &str, name: &str) -> Vec<String> {
    form_urlencoded::parse(query.as_bytes())
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.into_owned())
        .collect()
}

/// Why a query does not name one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRegion {
    /// It names none.
    Missing,
    /// What it names cannot be a region; the text says why and repeats nothing of it.
    Invalid(String),
    /// It names several.
    Ambiguous,
}

/// The one region of the query. The host folds repeats into `a,b`; a repeat of the same name is still one region.
///
/// # Errors
/// [`NoRegion`].
pub fn region(query: &str) -> Result<Region, NoRegion> {
    let values = values(query, "region");
    let mut regions = values.iter().flat_map(|v| v.split(',')).filter(|v| !v.trim().is_empty()).map(Region::parse);
    let first = regions.next().ok_or(NoRegion::Missing)?.map_err(NoRegion::Invalid)?;
    if regions.any(|other| other.as_ref() != Ok(&first)) { Err(NoRegion::Ambiguous) } else { Ok(first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_region_is_named_once_or_in_repeats() {
        for query in
            ["region=westus", "code=k&REGION=+West%20US%20", "region=westus&Region=WESTUS", "region=,westus,west+us"]
        {
            assert_eq!(region(query).map(|r| r.to_string()), Ok("westus".to_owned()), "{query}");
        }
        for query in ["", "region", "region=&region=+", "regions=a", "region=,"] {
            assert_eq!(region(query), Err(NoRegion::Missing), "{query}");
        }
        for query in ["region=a,b", "region=a&region=b", "region=a&region=%07"] {
            assert_eq!(region(query), Err(NoRegion::Ambiguous), "{query}");
        }
        assert!(matches!(region("region=s3cret%07"), Err(NoRegion::Invalid(why)) if !why.contains("s3cret")));
    }
}
