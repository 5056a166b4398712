//! Generated core modules in a component: it is valid, and so is what every chain of passes makes of it.
//!
//! The input is eight bytes of settings and what `wasm-smith` makes modules of. Since the component is valid, a pass that
//! calls it invalid is a finding, besides what must hold of a chain. For a split the hot set is any.
#![no_main]

use forerun_fuzz::{chains, smith};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((component, mut numbers)) = smith::component(data) else { return };
    // The generator knows proposals that are not standard yet; what uses them is nobody's.
    if chains::is_valid(&component).is_err() {
        return;
    }
    for chain in 0..chains::CHAINS {
        chains::run(&component, chain, &mut numbers);
    }
});
