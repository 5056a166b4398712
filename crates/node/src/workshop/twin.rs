//! Instrumented twins: machine code that notes which inner functions ran, and the map of what it notes.
//!
//! Both are made in worker processes. The map is made from a stranger's bytes as the code is, so it is made there too,
//! and read with its own checks.

use bytes::Bytes;
use forerun_driver::AuthenticImage;
use forerun_images::ImageLease;
use forerun_runtime::Tier;
use forerun_specialize::JobKind;
use forerun_specialize::passes::coverage::{self, CoverageMap};
use forerun_types::ComponentDigest;

use super::product::{Product, file_of, read_beginning};
use super::{MERGING, MakeFailure, Workshop, revisions, vouched};
use crate::worker;

/// Largest map that is read.
const MAP_BYTES_MAX: u64 = 64 << 20;

/// A twin that can be loaded.
pub(crate) struct TwinImage {
    pub(crate) image: AuthenticImage,
    pub(crate) map: CoverageMap,
}

impl Workshop {
    /// The twin of a component, made now if it is not there. Blocks for as long as that takes.
    pub(crate) fn twin(&self, component: ComponentDigest, source: &Bytes) -> Result<TwinImage, MakeFailure> {
        let map = self.product(component, source, part(worker::TWIN_MAP, "twin-map"))?;
        let map = read_map(&map)?;
        let tier = Self::first_tier(source);
        let label = match tier {
            Tier::Quick => "twin-quick",
            Tier::Full => "twin-full",
        };
        let code = self.product(component, source, part(worker::twin_kind(tier), label))?;
        Ok(TwinImage { image: vouched(code)?, map })
    }
}

fn part(kind: JobKind, label: &'static str) -> Product {
    let parameters = worker::Parameters { passes: vec![MERGING.to_owned()], split: None, bodies_bytes: None };
    let recipe = format!("{}, coverage {}", revisions(&[MERGING]), coverage::REVISION);
    Product { kind, label, recipe, parameters, has_reports: false }
}

fn read_map(lease: &ImageLease) -> Result<CoverageMap, MakeFailure> {
    if lease.bytes() > MAP_BYTES_MAX {
        return Err(MakeFailure::BadComponent(format!("its map has {} bytes, which is too much", lease.bytes())));
    }
    let bytes = read_beginning(&file_of(lease)?, MAP_BYTES_MAX)?;
    CoverageMap::decode(&bytes).map_err(|error| MakeFailure::BadComponent(error.to_string()))
}
