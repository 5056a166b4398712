//! Which of the images of a component serves: the first that loads.
//!
//! An image of what the passes made of a component comes first. If it does not load, the component may be fine and a
//! pass at fault, so the component as it was deployed has its chance. Only if that one loads, or cannot be tried, is the
//! first image given up: else it may load another time, with higher limits of the function for example.

use forerun_driver::{AuthenticImage, LoadError};

use crate::workshop::{Form, Found, Variant};

/// A program that was loaded from an image.
#[derive(Debug)]
pub(crate) struct FromImage<P> {
    pub(crate) program: P,
    pub(crate) variant: Variant,
    /// Time the worker took, in milliseconds; 0 if the image was there already.
    pub(crate) build_ms: u64,
}

/// Why nothing was loaded.
#[derive(Debug, PartialEq)]
pub(crate) enum NotLoaded<E> {
    /// No image could be had, for a reason that ends the matter.
    NoImage(E),
    /// The component does not load.
    Refused(LoadError),
}

/// Loads the first image of a component that `load` takes; `None` if there is none, so that the driver has to compile.
/// What is no good is handed to `reject`.
pub(crate) fn first_that_loads<P, E>(
    mut image: impl FnMut(Form) -> Result<Option<Found>, E>,
    mut load: impl FnMut(AuthenticImage) -> Result<P, LoadError>,
    mut reject: impl FnMut(Variant, &LoadError),
) -> Result<Option<FromImage<P>>, NotLoaded<E>> {
    let mut suspect: Option<(Variant, LoadError)> = None;
    for form in [Form::Prepared, Form::AsDeployed] {
        let Some(found) = image(form).map_err(NotLoaded::NoImage)? else {
            break;
        };
        let Found { image, variant, is_changed, build_ms, .. } = found;
        match load(image) {
            Ok(program) => {
                suspect.iter().for_each(|(variant, reason)| reject(*variant, reason));
                return Ok(Some(FromImage { program, variant, build_ms }));
            }
            Err(reason) if is_changed => suspect = Some((variant, reason)),
            Err(reason @ LoadError::ForeignImage { .. }) => {
                reject(variant, &reason);
                break;
            }
            Err(reason) => return Err(NotLoaded::Refused(reason)),
        }
    }
    suspect.iter().for_each(|(variant, reason)| reject(*variant, reason));
    Ok(None)
}

#[cfg(test)]
mod tests {
    use forerun_runtime::Tier;

    use super::*;

    fn found(form: Form, is_changed: bool) -> Found {
        let image = AuthenticImage::vouch_for(tempfile::tempfile().unwrap(), ());
        Found {
            image,
            variant: Variant { tier: Tier::Full, form, lineage: None },
            is_changed,
            build_ms: 7,
            made_in_ms: 7,
        }
    }

    fn foreign() -> LoadError {
        LoadError::ForeignImage { detail: "of another engine".to_owned() }
    }

    fn broken() -> LoadError {
        LoadError::DoesNotStart { detail: "it traps".to_owned() }
    }

    /// What was loaded in the end.
    type End = Result<Option<(u32, Form)>, NotLoaded<()>>;

    /// What is asked for and loaded, one after the other; the last outcome is repeated.
    fn run(is_changed: bool, outcomes: &[Result<u32, LoadError>]) -> (End, Vec<Form>) {
        let (mut outcomes, mut rejected) = (outcomes.iter().cloned(), Vec::new());
        let loaded = first_that_loads(
            |form| Ok(Some(found(form, is_changed && form == Form::Prepared))),
            |_| outcomes.next().unwrap(),
            |variant, _| rejected.push(variant.form),
        );
        (loaded.map(|loaded| loaded.map(|loaded| (loaded.program, loaded.variant.form))), rejected)
    }

    #[test]
    fn what_the_passes_made_serves_if_it_loads() {
        assert_eq!(run(true, &[Ok(1)]), (Ok(Some((1, Form::Prepared))), vec![]));
    }

    #[test]
    fn a_component_has_another_chance_as_it_was_deployed() {
        for reason in [foreign(), broken()] {
            let expected = (Ok(Some((2, Form::AsDeployed))), vec![Form::Prepared]);
            assert_eq!(run(true, &[Err(reason), Ok(2)]), expected);
        }
    }

    #[test]
    fn what_no_pass_has_touched_is_at_fault_itself() {
        assert_eq!(run(false, &[Err(broken())]), (Err(NotLoaded::Refused(broken())), vec![]));
        // Nothing speaks against the pass then.
        let refused = (Err(NotLoaded::Refused(broken())), vec![]);
        assert_eq!(run(true, &[Err(broken()), Err(broken())]), refused);
    }

    #[test]
    fn code_of_another_engine_is_made_by_the_driver() {
        assert_eq!(run(false, &[Err(foreign())]), (Ok(None), vec![Form::Prepared]));
        let both = (Ok(None), vec![Form::AsDeployed, Form::Prepared]);
        assert_eq!(run(true, &[Err(foreign()), Err(foreign())]), both);
    }
}
