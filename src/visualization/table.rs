//! A matrix as text, for what the programs print.

use std::fmt::Write;

use tch::{Kind, Tensor};

use self_attention::error::{Error, Result};

/// A matrix with a name for each row and each column, `decimals` digits behind the point.
///
/// # Shapes
/// `values`: `[rows, columns]`.
///
/// # Errors
/// [`Error::Shape`] if there are not as many names as rows and columns.
pub fn matrix(
    rows: &[&str],
    columns: &[&str],
    values: &Tensor,
    decimals: usize,
) -> Result<String> {
    if values.size() != [rows.len() as i64, columns.len() as i64] {
        let expected =
            format!("[{}, {}], as many as there are names", rows.len(), columns.len());
        return Err(Error::Shape {
            what: "table: values",
            expected,
            found: values.size(),
        });
    }
    let values = Vec::<Vec<f64>>::try_from(&values.f_to_kind(Kind::Double)?)?;
    let widest = values
        .iter()
        .flatten()
        .map(|value| format!("{value:.decimals$}").len())
        .max()
        .unwrap_or(0);
    let column = 2 + columns
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0)
        .max(widest);
    let row = rows.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = " ".repeat(row);
    columns.iter().for_each(|name| text.push_str(&format!("{name:>column$}")));
    for (name, values) in rows.iter().zip(values) {
        let _ = write!(text, "\n{name:row$}");
        for value in values {
            let value = if value == 0.0 { 0.0 } else { value }; // no −0
            let _ = write!(text, "{value:>column$.decimals$}");
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_stand_in_columns() {
        let values = Tensor::from_slice2(&[[1.0, -0.0], [10.25, f64::NAN]]);
        let expected = "         a      b\nt     1.00   0.00\n<s>  10.25    NaN";
        assert_eq!(matrix(&["t", "<s>"], &["a", "b"], &values, 2).unwrap(), expected);
        assert!(matrix(&["t"], &["a", "b"], &values, 2).is_err());
    }
}
