//! The pass `coverage` on the real engine: the twin answers as the original does, and notes exactly what ran.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use forerun_specialize::passes::Unsupported;
use forerun_specialize::passes::body_hash::BodyHash;
use forerun_specialize::passes::coverage::{
    CLEAR, COVERAGE_INTERFACE, CoverageMap, CoverageRefusal, Covered, CoveredFunction, MEMORY, READ, add_coverage,
};
use support::{Vm, component, engine};

impl Vm {
    /// A byte for each function.
    fn marks(&mut self) -> Vec<u8> {
        let read = self.of(COVERAGE_INTERFACE, READ);
        self.call::<(), (Vec<u8>,)>(read, ()).unwrap().0
    }

    fn clear(&mut self) {
        let clear = self.of(COVERAGE_INTERFACE, CLEAR);
        self.call::<(), ()>(clear, ()).unwrap();
    }

    /// The names of the functions that ran since the last look, in order.
    fn ran<'m>(&mut self, map: &'m CoverageMap) -> Vec<&'m str> {
        let marks = self.marks();
        assert_eq!(marks.len(), map.functions.len());
        assert!(marks.iter().all(|mark| *mark <= 1));
        self.clear();
        let marked = map.functions.iter().zip(marks).filter(|(_, mark)| *mark == 1);
        marked.map(|(function, _)| function.name.as_str()).collect()
    }
}

fn twin(text: &str) -> (CoverageMap, Vm) {
    let Covered { component, map } = add_coverage(&component(text)).unwrap();
    let vm = Vm::new(&engine(), &component);
    (map, vm)
}

/// The functions of a component of one core module with `contents`.
fn functions(contents: &str) -> Vec<CoveredFunction> {
    let text = format!("(component (core module $m {contents}) (core instance (instantiate $m)))");
    add_coverage(&component(&text)).unwrap().map.functions
}

/// The key of the first function.
fn key(contents: &str) -> BodyHash {
    functions(contents)[0].hash
}

#[test]
fn each_request_marks_what_it_ran_and_nothing_else() {
    let (map, mut vm) = twin(
        r#"
(component
  (core module $main
    (table 2 funcref)
    (elem (i32.const 0) $even $odd)
    (type $number (func (result i32)))
    (func $begin)
    (start $begin)
    (func $even (result i32) (call $deep))
    (func $odd (result i32) (i32.const 1))
    (func $deep (result i32) (local i64 i32) (local.set 1 (i32.const 40)) (i32.add (local.get 1) (i32.const 2)))
    (func $never (call $never))
    (func $show (export "show") (param $which i32) (result i32) (call_indirect (type $number) (local.get $which))))
  (core instance $i (instantiate $main))
  (func (export "show") (param "which" u32) (result u32) (canon lift (core func $i "show"))))
"#,
    );
    let mut show = |which: u32| {
        let function = vm.top("show");
        let answer = vm.call::<(u32,), (u32,)>(function, (which,)).unwrap().0;
        (answer, vm.ran(&map).join(" "))
    };
    // The first look sees what instantiation ran, too.
    assert_eq!(show(0), (42, "begin even deep show".to_owned()));
    assert_eq!(show(1), (1, "odd show".to_owned()));
    assert_eq!(show(0), (42, "even deep show".to_owned()));
    assert!(vm.ran(&map).is_empty());
}

#[test]
fn modules_come_one_after_the_other_whatever_memories_they_have() {
    let (map, mut vm) = twin(
        r#"
(component
  (core module $library
    (memory (export "memory") 1) (memory 1)
    (data (i32.const 8) "\07")
    (func $peek (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func $unused (result i32) (i32.const 1)))
  (core module $nobody (func $ghost))
  (core module $empty (memory 1))
  (core module $main
    (import "library" "memory" (memory 1))
    (import "library" "peek" (func $peek (param i32) (result i32)))
    (func $direct (export "direct") (result i32) (i32.load8_u (i32.const 8)))
    (func $around (export "around") (result i32) (call $peek (i32.const 8))))
  (core module $alone (func $lonely (export "lonely") (result i32) (i32.const 3)))
  (core instance $l (instantiate $library))
  (core instance (instantiate $empty))
  (core instance $a (instantiate $alone))
  (core instance $m (instantiate $main (with "library" (instance $l))))
  (func (export "direct") (result u32) (canon lift (core func $m "direct")))
  (func (export "around") (result u32) (canon lift (core func $m "around")))
  (func (export "lonely") (result u32) (canon lift (core func $a "lonely"))))
"#,
    );
    let names: Vec<&str> = map.functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(names, ["peek", "unused", "direct", "around", "lonely"]);
    let modules: Vec<&str> = map.modules.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(modules, ["library", "main", "alone"]);
    assert_eq!(map.functions[3].library, "main");
    assert_eq!((map.functions[3].module, map.functions[3].index), (1, 2));

    assert_eq!((vm.number("direct").unwrap(), vm.ran(&map)), (7, vec!["direct"]));
    assert_eq!((vm.number("around").unwrap(), vm.ran(&map)), (7, vec!["peek", "around"]));
    assert_eq!((vm.number("lonely").unwrap(), vm.ran(&map)), (3, vec!["lonely"]));
}

#[test]
fn a_components_own_memories_are_given_as_lists_and_the_marks_are_not() {
    let (_, mut vm) = twin(
        r#"
(component
  (core module $library (memory (export "memory") 2) (data (i32.const 0) "ninebytes"))
  (core module $main
    (import "library" "memory" (memory 1)) (memory 1) (memory 0)
    (func (export "put") (i32.store8 1 (i32.const 65535) (i32.const 5))))
  (core instance $l (instantiate $library))
  (core instance $m (instantiate $main (with "library" (instance $l))))
  (func (export "put") (canon lift (core func $m "put"))))
"#,
    );
    let put = vm.top("put");
    vm.call::<(), ()>(put, ()).unwrap();
    let mut memory = |number: u32| {
        let give = vm.of(COVERAGE_INTERFACE, &format!("{MEMORY}{number}"));
        vm.call::<(), (Vec<u8>,)>(give, ()).unwrap().0
    };
    for _ in 0..2 {
        let (library, own) = (memory(0), memory(1));
        // Address and length of the list itself are over the first eight bytes while it is read, and gone after that.
        assert_eq!((library.len(), library[8], own.len(), own[65_535]), (131_072, b's', 65_536, 5));
    }
    let interface = vm.instance.get_export_index(&mut vm.store, None, COVERAGE_INTERFACE).unwrap();
    assert!(vm.instance.get_export_index(&mut vm.store, Some(&interface), "memory2").is_none(), "one is empty");
}

#[test]
fn a_component_without_functions_has_an_empty_list() {
    let (map, mut vm) = twin("(component)");
    assert!(map.functions.is_empty());
    assert!(vm.marks().is_empty());
    vm.clear();
}

#[test]
fn more_functions_than_a_page_of_marks() {
    let functions = "(func)".repeat(70_000);
    let (map, mut vm) = twin(&format!(
        r#"(component (core module $m {functions} (func $last (export "last") (result i32) (i32.const 5)))
            (core instance $i (instantiate $m)) (func (export "last") (result u32) (canon lift (core func $i "last"))))"#
    ));
    assert_eq!((vm.number("last").unwrap(), vm.ran(&map)), (5, vec!["last"]));
    let keys: BTreeSet<BodyHash> = map.functions.iter().map(|function| function.hash).collect();
    assert_eq!(keys.len(), 70_001, "functions that do the same have keys of their own");
    let bodies: BTreeSet<BodyHash> = map.functions.iter().map(|function| function.body).collect();
    assert_eq!(bodies.len(), 2, "and say that they do the same");
}

#[test]
fn a_key_says_what_a_function_does_and_not_where_it_is() {
    let plain = "(func $f (param i32) (result i32) (call $g (local.get 0)))
                 (func $g (param i32) (result i32) (i32.add (local.get 0) (i32.const 7)))";
    let key_of = |contents: &str, name: &str| {
        let functions = functions(contents);
        functions.iter().find(|function| function.name == name).expect("it is there").hash
    };
    // Other functions, types, imports and globals before it.
    let moved = format!("(type (func (param i64))) (func $other (param i64)) (global i32 (i32.const 1)) {plain}");
    for name in ["f", "g"] {
        assert_eq!(key_of(plain, name), key_of(&moved, name));
    }
    // Its callee does something else, which is no business of the caller's key.
    let other = plain.replace("i32.const 7", "i32.const 8");
    assert_ne!(key_of(plain, "g"), key_of(&other, "g"));
    assert_eq!(key_of(plain, "f"), key_of(&other, "f"));
}

#[test]
fn addresses_do_not_count_and_other_numbers_do() {
    let with = |address: u32, small: u32| {
        key(&format!(
            "(memory 2) (func (drop (i32.load offset={address} (i32.const {small}))) (drop (i32.const {address})))"
        ))
    };
    assert_eq!(with(2048, 4), with(4096, 4));
    assert_ne!(with(2048, 4), with(2048, 8));
    // The same global under another number, and another type.
    let global = |before: &str, ty: &str| {
        key(&format!("{before} (global $g (mut {ty}) ({ty}.const 0)) (func (drop (global.get $g)))"))
    };
    assert_eq!(global("", "i32"), global("(global i64 (i64.const 1))", "i32"));
    assert_ne!(global("", "i32"), global("", "i64"));
    let import = |name: &str| {
        let text = format!(
            r#"(component
                (core module $a (func (export "{name}")))
                (core module $m (import "a" "{name}" (func $f)) (func $of (call $f)))
                (core instance $i (instantiate $a))
                (core instance (instantiate $m (with "a" (instance $i)))))"#
        );
        add_coverage(&component(&text)).unwrap().map.functions[1].hash
    };
    assert_ne!(import("read"), import("write"));
}

#[test]
fn the_map_reads_as_it_was_written() {
    let map = add_coverage(&hello()).unwrap().map;
    assert_eq!(CoverageMap::decode(&map.encode()), Ok(map));
}

#[test]
fn functions_are_called_what_people_call_them() {
    let functions = functions(
        "(func $_ZN4core3fmt9Formatter3pad17h0123456789abcdefE) (func $_ZNK2js6Object4sizeEv) (func $main) (func)",
    );
    let shown: Vec<_> = functions.iter().map(|function| (&*function.name, &*function.library)).collect();
    let expected = [("core::fmt::Formatter::pad", "core"), ("js::Object::size", "js"), ("main", "m"), ("func[3]", "m")];
    assert_eq!(shown, expected);
}

#[test]
fn a_real_component_has_a_twin_not_much_larger() {
    for source in [hello(), example("hello/components/hello-p3"), example("shop/components/cart")] {
        let Covered { component, map } = add_coverage(&source).unwrap();
        assert!(component.len() < source.len() * 2, "{} of {}", component.len(), source.len());
        assert!(map.functions.len() > 100, "{}", map.functions.len());
        assert!(map.modules.iter().any(|module| module.name.contains("adapter")), "{:?}", map.modules);
        let keys: BTreeSet<BodyHash> = map.functions.iter().map(|function| function.hash).collect();
        assert_eq!(keys.len(), map.functions.len());
    }
}

#[test]
fn two_programs_of_one_toolchain_share_keys() {
    let keys = |bytes: &[u8]| -> BTreeSet<BodyHash> {
        add_coverage(bytes).unwrap().map.functions.iter().map(|function| function.hash).collect()
    };
    let (cart, catalog) = (keys(&example("shop/components/cart")), keys(&example("shop/components/catalog")));
    let shared = cart.intersection(&catalog).count();
    // The runtime is most of either.
    assert!(shared * 2 > cart.len(), "{shared} of {} and {}", cart.len(), catalog.len());
}

#[test]
fn what_has_no_twin_is_refused_by_name() {
    let refusal = |text: &str| add_coverage(&component(text)).map(|covered| covered.map).unwrap_err();
    assert_eq!(
        refusal("(component (component (core module)))"),
        CoverageRefusal::Unsupported(Unsupported::NestedModules { component: 0 })
    );
    let taken = r#"(component (core module $m (func (export "forerun:marks"))) (core instance (instantiate $m)))"#;
    assert_eq!(refusal(taken), CoverageRefusal::Unsupported(Unsupported::NameTaken { name: "forerun:marks" }));
    let once = add_coverage(&component("(component)")).unwrap().component;
    let again = add_coverage(&once).unwrap_err();
    assert_eq!(again, CoverageRefusal::Unsupported(Unsupported::NameTaken { name: COVERAGE_INTERFACE }));
    let many = "(core module $m (func)) (core instance (instantiate $m))";
    let many: String = (0..100).map(|number| many.replace("$m", &format!("$m{number}"))).collect();
    let refused = refusal(&format!("(component {many})"));
    assert_eq!(refused, CoverageRefusal::TooManyModules { modules: 100, modules_max: 99 });
    assert_eq!(refused.name(), "too-many-modules");
}

fn hello() -> Vec<u8> {
    example("hello/components/hello")
}

fn example(name: &str) -> Vec<u8> {
    let path = format!("{}/../../examples/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

mod properties {
    //! Generated modules, and another way to know what ran: a copy whose functions each *call* the host with their
    //! number. It is made by shifting every function index, whereas the twin shifts none.

    use std::convert::Infallible;

    use proptest::prelude::*;
    use wasm_encoder::reencode::{self, Reencode, utils};
    use wasm_encoder::{
        CodeSection, EntityType, Function, ImportSection, Instruction, Module, SectionId, TypeSection, ValType,
    };

    use super::*;
    use crate::support::generated::{State, answer, module, wrap};

    /// Rewrites a module without imports so that each function first calls `host.log` with its number.
    #[derive(Default)]
    struct Logging {
        log_type: u32,
        next: i32,
    }

    impl Reencode for Logging {
        type Error = Infallible;

        fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error<Infallible>> {
            Ok(function + 1)
        }

        fn parse_type_section(
            &mut self,
            types: &mut TypeSection,
            section: wasmparser::TypeSectionReader<'_>,
        ) -> Result<(), reencode::Error<Infallible>> {
            utils::parse_type_section(self, types, section)?;
            self.log_type = types.len();
            types.ty().function([ValType::I32], []);
            Ok(())
        }

        fn parse_import_section(
            &mut self,
            imports: &mut ImportSection,
            _empty: wasmparser::ImportSectionReader<'_>,
        ) -> Result<(), reencode::Error<Infallible>> {
            imports.import("host", "log", EntityType::Function(self.log_type));
            Ok(())
        }

        fn intersperse_section_hook(
            &mut self,
            module: &mut Module,
            after: Option<SectionId>,
            before: Option<SectionId>,
        ) -> Result<(), reencode::Error<Infallible>> {
            // The generator writes an empty section of imports now and then.
            if after == Some(SectionId::Type) && before != Some(SectionId::Import) {
                let mut imports = ImportSection::new();
                imports.import("host", "log", EntityType::Function(self.log_type));
                module.section(&imports);
            }
            Ok(())
        }

        fn parse_function_body(
            &mut self,
            code: &mut CodeSection,
            body: wasmparser::FunctionBody<'_>,
        ) -> Result<(), reencode::Error<Infallible>> {
            let mut function: Function = self.new_function_with_parsed_locals(&body)?;
            function.instruction(&Instruction::I32Const(self.next)).instruction(&Instruction::Call(0));
            self.next += 1;
            let mut operators = body.get_operators_reader()?;
            while !operators.eof() {
                function.instruction(&self.instruction(operators.read()?)?);
            }
            code.function(&function);
            Ok(())
        }
    }

    fn logging(module: &[u8]) -> Vec<u8> {
        let mut output = Module::new();
        Logging::default().parse_core_module(&mut output, wasmparser::Parser::new(0), module).unwrap();
        let imports = r#"(import "log" (func $log (param "number" u32)))
            (core func $lowered (canon lower (func $log)))
            (core instance $host (export "log" (func $lowered)))"#;
        let placeholder = r#"(import "host" "log" (func (param i32)))"#;
        wrap(&output.finish(), imports, placeholder, r#"(with "host" (instance $host))"#)
    }

    /// False if the seed makes nothing that can be called.
    fn check(seed: &[u8], calls: &[(u8, i64)]) -> bool {
        let Some(module) = module(seed, State::MemoryAndTable) else { return false };
        let source = wrap(&module, "", "", "");
        let covered = add_coverage(&source).unwrap();
        let engine = engine();
        let Ok(mut original) = Vm::started(&engine, &source) else {
            assert!(Vm::started(&engine, &covered.component).is_err(), "it does not start either");
            return false;
        };
        let mut twin = Vm::new(&engine, &covered.component);
        let mut logger = Vm::logging(&engine, &logging(&module));
        let mut compared = 0;
        for (which, x) in calls {
            let expected = answer(&mut original, *which, *x);
            assert_eq!(answer(&mut twin, *which, *x), expected);
            assert_eq!(answer(&mut logger, *which, *x), expected);
            if expected.is_none() {
                break;
            }
            let marks = twin.marks();
            assert_eq!(marks.len(), covered.map.functions.len());
            let marked = (0..).zip(&marks).filter(|(_, mark)| **mark == 1).map(|(number, _)| number);
            let logged: BTreeSet<u32> = logger.store.data_mut().drain(..).collect();
            assert_eq!(marked.collect::<BTreeSet<u32>>(), logged);
            twin.clear();
            compared += 1;
        }
        compared > 0
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, max_shrink_iters: 100, ..ProptestConfig::default() })]

        #[test]
        fn the_twin_answers_the_same_and_marks_exactly_what_ran(
            seed in proptest::collection::vec(any::<u8>(), 200..3_000),
            calls in proptest::collection::vec(any::<(u8, i64)>(), 1..5),
        ) {
            prop_assume!(check(&seed, &calls));
        }

        #[test]
        fn bytes_that_a_stranger_changed_are_refused_or_taken_and_never_panic(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = component(
                r#"(component (core module $m (memory 1) (func $f (export "f") (call $f))) (core instance (instantiate $m)))"#,
            );
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = add_coverage(&bytes);
        }
    }
}
