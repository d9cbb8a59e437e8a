//! What filters of one name share from one configuration to the next, as long as any of them has it.
//!
//! Runs on: where configurations are read. Allocates: freely. Blocks: never.

use std::any::Any;
use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwapWeak;

use super::Lasting;

/// The last one that was made. It is dropped with the last filter that has it, not kept here.
#[derive(Debug, Default)]
struct Shelf<T>(ArcSwapWeak<T>);

/// What is there under this name, if it is still `wanted`; else what `make` makes takes its place.
pub(super) fn shared<T: Any + Send + Sync, E>(
    lasting: &Lasting,
    name: &str,
    wanted: impl FnOnce(&T) -> bool,
    make: impl FnOnce() -> Result<Arc<T>, E>,
) -> Result<Arc<T>, E> {
    let shelf = lasting.keep(name, || Ok::<_, Infallible>(Shelf::<T>(ArcSwapWeak::default())));
    let shelf = shelf.unwrap_or_else(|never| match never {});
    if let Some(there) = shelf.0.load().upgrade().filter(|there| wanted(there)) {
        return Ok(there);
    }
    let made = make()?;
    shelf.0.store(Arc::downgrade(&made));
    Ok(made)
}

/// What filters share of this type, with the names under which they do.
pub(super) fn all_shared<T: Any + Send + Sync>(lasting: &Lasting) -> Vec<(String, Arc<T>)> {
    let shelves = lasting.all::<Shelf<T>>().into_iter();
    shelves.filter_map(|(name, shelf)| Some((name, shelf.0.load().upgrade()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_and_is_wanted_is_shared_and_nothing_else() {
        let lasting = Lasting::default();
        let number = |wanted: u32| {
            shared(&lasting, "test:a", |there| *there == wanted, || Ok::<_, Infallible>(Arc::new(wanted)))
        };
        let Ok(one) = number(1);
        assert!(number(1).is_ok_and(|again| Arc::ptr_eq(&one, &again)));
        let Ok(two) = number(2);
        assert_eq!((*one, *two), (1, 2));
        assert_eq!(all_shared::<u32>(&lasting), [("test:a".to_owned(), Arc::clone(&two))]);
        let gone = Arc::downgrade(&two);
        drop(two);
        assert!(gone.upgrade().is_none());
        assert!(all_shared::<u32>(&lasting).is_empty());
    }
}
