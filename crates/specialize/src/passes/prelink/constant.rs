//! Constant expressions, evaluated: what a global or the place of a segment is before anything has run.
//!
//! Numbers only. References and vectors have no value here.

use wasm_encoder::{ConstExpr, Ieee32, Ieee64, Instruction};
use wasmparser::Operator;

/// A value; floats by their bits, so that no NaN changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Constant {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
}

impl Constant {
    /// The expression that gives it.
    pub(super) fn expression(self) -> ConstExpr {
        match self {
            Self::I32(value) => ConstExpr::i32_const(value),
            Self::I64(value) => ConstExpr::i64_const(value),
            Self::F32(bits) => ConstExpr::f32_const(Ieee32::new(bits)),
            Self::F64(bits) => ConstExpr::f64_const(Ieee64::new(bits)),
        }
    }

    /// The instruction that gives it.
    pub(super) fn instruction(self) -> Instruction<'static> {
        match self {
            Self::I32(value) => Instruction::I32Const(value),
            Self::I64(value) => Instruction::I64Const(value),
            Self::F32(bits) => Instruction::F32Const(Ieee32::new(bits)),
            Self::F64(bits) => Instruction::F64Const(Ieee64::new(bits)),
        }
    }

    /// It as a place in a table or memory; floats are none.
    pub(super) fn address(self) -> Option<u64> {
        match self {
            Self::I32(value) => Some(u64::from(value.cast_unsigned())),
            Self::I64(value) => Some(value.cast_unsigned()),
            Self::F32(_) | Self::F64(_) => None,
        }
    }
}

/// The value of an expression, if it is a number; `global` knows those of the globals before it.
pub(super) fn evaluate(
    expression: &wasmparser::ConstExpr<'_>,
    global: impl Fn(u32) -> Option<Constant>,
) -> Option<Constant> {
    use Constant::{F32, F64, I32, I64};

    let mut stack = Vec::new();
    let mut operators = expression.get_operators_reader();
    while !operators.eof() {
        let value = match operators.read().ok()? {
            Operator::I32Const { value } => I32(value),
            Operator::I64Const { value } => I64(value),
            Operator::F32Const { value } => F32(value.bits()),
            Operator::F64Const { value } => F64(value.bits()),
            Operator::GlobalGet { global_index } => global(global_index)?,
            Operator::End => break,
            operator => match (operator, stack.pop()?, stack.pop()?) {
                (Operator::I32Add, I32(right), I32(left)) => I32(left.wrapping_add(right)),
                (Operator::I32Sub, I32(right), I32(left)) => I32(left.wrapping_sub(right)),
                (Operator::I32Mul, I32(right), I32(left)) => I32(left.wrapping_mul(right)),
                (Operator::I64Add, I64(right), I64(left)) => I64(left.wrapping_add(right)),
                (Operator::I64Sub, I64(right), I64(left)) => I64(left.wrapping_sub(right)),
                (Operator::I64Mul, I64(right), I64(left)) => I64(left.wrapping_mul(right)),
                _ => return None,
            },
        };
        stack.push(value);
    }
    stack.pop().filter(|_| stack.is_empty())
}
