//! Numbers: Java's notation and arithmetic.

use crate::{RenderCause, syntax::Operator, value::Value};

/// Formats a number as Java formats a `double`.
pub(crate) fn java_double(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if number == 0.0 || (1e-3..1e7).contains(&number.abs()) {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        _ => text,
    }
}

/// Computes `+ - * / %`. `None` if one side is not a number, or a whole number is divided by zero.
pub(crate) fn calculate(left: &Value, operator: Operator, right: &Value) -> Result<Option<Value>, RenderCause> {
    if let (Value::Integer(left), Value::Integer(right)) = (left, right) {
        if *right == 0 && matches!(operator, Operator::Divide | Operator::Remainder) {
            return Ok(None);
        }
        let result = match operator {
            Operator::Add => left.checked_add(*right),
            Operator::Subtract => left.checked_sub(*right),
            Operator::Multiply => left.checked_mul(*right),
            Operator::Divide => left.checked_div(*right),
            Operator::Remainder => left.checked_rem(*right),
            _ => return Ok(None),
        };
        return result.map(|result| Some(Value::Integer(result))).ok_or(RenderCause::Overflow);
    }
    let (Some(left), Some(right)) = (as_float(left), as_float(right)) else { return Ok(None) };
    Ok(match operator {
        Operator::Add => Some(left + right),
        Operator::Subtract => Some(left - right),
        Operator::Multiply => Some(left * right),
        Operator::Divide if right != 0.0 => Some(left / right),
        Operator::Remainder if right != 0.0 => Some(left % right),
        _ => None,
    }
    .map(Value::Float))
}

/// Compares two numbers. `None` if one side is not a number.
pub(crate) fn compare(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    match (left, right) {
        (Value::Integer(left), Value::Integer(right)) => Some(left.cmp(right)),
        _ => as_float(left)?.partial_cmp(&as_float(right)?),
    }
}

#[expect(clippy::cast_precision_loss, reason = "Java converts a long to a double in the same way")]
pub(crate) fn as_float(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_java_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (249.99, "249.99"),
            (0.001, "0.001"),
            (0.00001, "1.0E-5"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (1.5e10, "1.5E10"),
            (-2.5e300, "-2.5E300"),
        ];
        for (number, expected) in cases {
            assert_eq!(java_double(number), expected);
        }
    }
}
