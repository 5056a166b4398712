//! Instrumented twins: machine code that notes which inner functions ran, and the map of what it notes.
//!
//! Both are made in worker processes in the time that nobody wants, and kept in the cache as any image is. The map is
//! made from a stranger's bytes as the code is, so it is made there too, and read with its own checks.

use std::fs::File;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use forerun_driver::AuthenticImage;
use forerun_images::{ImageLabel, ImageLease, ImageMeta, Miss, VerifiedPayload};
use forerun_runtime::Tier;
use forerun_specialize::passes::coverage::CoverageMap;
use forerun_specialize::{Job, JobKind};
use forerun_types::{ComponentDigest, ImageKey, ProfileDigest};

use super::{MakeFailure, VALUE_MS_PER_BYTE, Workshop, granted, vouched};
use crate::worker;

/// Largest map that is read.
const MAP_BYTES_MAX: u64 = 64 << 20;

/// A twin that can be loaded.
pub(crate) struct TwinImage {
    pub(crate) image: AuthenticImage,
    pub(crate) map: CoverageMap,
}

/// What is made for a twin.
#[derive(Clone, Copy)]
enum Part {
    Code(Tier),
    Map,
}

impl Part {
    fn label(self) -> &'static str {
        match self {
            Self::Code(Tier::Quick) => "twin-quick",
            Self::Code(Tier::Full) => "twin-full",
            Self::Map => "twin-map",
        }
    }

    fn kind(self) -> JobKind {
        match self {
            Self::Code(tier) => worker::twin_kind(tier),
            Self::Map => worker::TWIN_MAP,
        }
    }
}

impl Workshop {
    /// The twin of a component, made now if it is not there. Blocks for as long as that takes.
    pub(crate) fn twin(&self, component: ComponentDigest, source: &Bytes) -> Result<TwinImage, MakeFailure> {
        let map = self.twin_part(component, source, Part::Map)?;
        let map = read_map(&map)?;
        let code = self.twin_part(component, source, Part::Code(Self::first_tier(source)))?;
        Ok(TwinImage { image: vouched(code)?, map })
    }

    fn twin_part(&self, component: ComponentDigest, source: &Bytes, part: Part) -> Result<ImageLease, MakeFailure> {
        let profile = ProfileDigest::of(format!("instrumented twin, {}", part.label()).as_bytes());
        let key = ImageKey { component, profile, engine: self.engine };
        if let Ok(lease) = self.cache.get(&key) {
            return Ok(lease);
        }
        let Some(ticket) = granted(self.cache.claim(&key))? else {
            return Ok(self.cache.get(&key)?);
        };
        let created_unix_ms = crate::functions::unix_ms();
        let job = Job { kind: part.kind(), parameters: b"{}".to_vec(), component: source.clone() };
        let (ticket, artifact) = self.worked(&self.idle, ticket, job)?;
        let label = ImageLabel::new(part.label()).expect("a short plain word");
        let meta = ImageMeta { created_unix_ms, build_ms: artifact.usage.wall_ms, label, passes: Default::default() };
        self.cache.publish(ticket, VerifiedPayload::vouch(&artifact.bytes), &meta, VALUE_MS_PER_BYTE)?;
        Ok(self.cache.get(&key)?)
    }
}

fn read_map(lease: &ImageLease) -> Result<CoverageMap, MakeFailure> {
    let file = lease.file_cloned().map_err(|error| io_miss(&error))?;
    let bytes = read_whole(&file).map_err(|error| io_miss(&error))?;
    CoverageMap::decode(&bytes).map_err(|error| MakeFailure::BadComponent(error.to_string()))
}

/// Leaves the file's position alone, which all holders of the image share.
fn read_whole(file: &File) -> std::io::Result<Vec<u8>> {
    let bytes = file.metadata()?.len();
    if bytes > MAP_BYTES_MAX {
        return Err(std::io::Error::other(format!("a map of {bytes} bytes is too large")));
    }
    let mut whole = vec![0; usize::try_from(bytes).map_err(std::io::Error::other)?];
    file.read_exact_at(&mut whole, 0)?;
    Ok(whole)
}

fn io_miss(error: &std::io::Error) -> MakeFailure {
    MakeFailure::Lost(Miss::Io { detail: error.to_string() })
}
