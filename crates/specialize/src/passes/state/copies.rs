//! The copies of a module's globals as numbers of 64 bits, to be read and written by whoever has their numbers.
//!
//! A vector is two numbers, its lower half first; all others are one each, floats by their bits. Which copy has which
//! number is decided by halving: ten thousand globals take fourteen comparisons.

use std::ops::Range;

use wasm_encoder::{BlockType, Function, InstructionSink, ValType};

use super::{Saved, count};

/// One number of a copy.
#[derive(Clone, Copy)]
struct Number {
    /// Index of the global that is the copy.
    copy: u32,
    ty: ValType,
    /// Of a vector: which half.
    half: u8,
}

/// How many numbers the copies of these globals are.
pub(super) fn numbers(saved: &[Saved]) -> u32 {
    count(all(saved, 0).len())
}

fn all(saved: &[Saved], first_copy: u32) -> Vec<Number> {
    let halves = |ty| if ty == ValType::V128 { 2 } else { 1 };
    let copies = saved.iter().zip(first_copy..);
    copies
        .flat_map(|(global, copy)| (0..halves(global.ty)).map(move |half| Number { copy, ty: global.ty, half }))
        .collect()
}

/// `func(number: i32) -> i64`. A number that there is not gives any of them: the caller knows how many there are.
pub(super) fn get(saved: &[Saved], first_copy: u32) -> Function {
    choice(&all(saved, first_copy), BlockType::Result(ValType::I64), &|code, number| {
        code.global_get(number.copy);
        match number.ty {
            ValType::I32 => code.i64_extend_i32_u(),
            ValType::F32 => code.i32_reinterpret_f32().i64_extend_i32_u(),
            ValType::F64 => code.i64_reinterpret_f64(),
            ValType::V128 => code.i64x2_extract_lane(number.half),
            // References are refused as an obstacle before this.
            ValType::I64 | ValType::Ref(_) => code,
        };
    })
}

/// `func(number: i32, value: i64)`.
pub(super) fn set(saved: &[Saved], first_copy: u32) -> Function {
    const VALUE: u32 = 1;
    choice(&all(saved, first_copy), BlockType::Empty, &|code, number| {
        match number.ty {
            ValType::I32 => code.local_get(VALUE).i32_wrap_i64(),
            ValType::F32 => code.local_get(VALUE).i32_wrap_i64().f32_reinterpret_i32(),
            ValType::F64 => code.local_get(VALUE).f64_reinterpret_i64(),
            ValType::V128 => code.global_get(number.copy).local_get(VALUE).i64x2_replace_lane(number.half),
            ValType::I64 | ValType::Ref(_) => code.local_get(VALUE),
        };
        code.global_set(number.copy);
    })
}

/// A function, but for its end, that does `act` with the number that local 0 says.
fn choice(numbers: &[Number], result: BlockType, act: &dyn Fn(&mut InstructionSink<'_>, Number)) -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    choose(&mut code, numbers, 0..numbers.len(), result, act);
    function
}

fn choose(
    code: &mut InstructionSink<'_>,
    numbers: &[Number],
    among: Range<usize>,
    result: BlockType,
    act: &dyn Fn(&mut InstructionSink<'_>, Number),
) {
    if among.len() <= 1 {
        numbers[among].iter().for_each(|number| act(code, *number));
        return;
    }
    let middle = among.start + among.len() / 2;
    code.local_get(0).i32_const(count(middle).cast_signed()).i32_lt_u().if_(result);
    choose(code, numbers, among.start..middle, result, act);
    code.else_();
    choose(code, numbers, middle..among.end, result, act);
    code.end();
}
