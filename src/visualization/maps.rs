//! From weights to pictures: one head, all heads of a block, all heads of the model, and a number for each head.

use self_attention::error::{Error, Result};
use self_attention::visualization::capture::Capture;
use self_attention::visualization::{Chart, Grid, Heatmap, Panels};

/// One head with every token on both axes: letters, `<sep>` and phonemes.
///
/// [`Capture::heatmap`] is the part of it that shows which letters each phoneme looked at.
///
/// # Errors
/// [`Error::Input`] if the model has no such block or head, counted from 0.
// ANCHOR: head_map
pub fn head_map(capture: &Capture, block: usize, head: usize) -> Result<Heatmap> {
    let weights = weights(capture, block, head)?;
    Ok(Heatmap::attention(
        format!("{}: block {}, head {}", capture.word, block + 1, head + 1),
        format!(
            "How much each token of {}, a row, looks at each token, a column.",
            capture.word
        ),
        &capture.tokens,
        &capture.tokens,
        weights.to_vec(),
    ))
}
// ANCHOR_END: head_map

/// All heads of a block, every token on both axes.
///
/// # Errors
/// [`Error::Input`] if the model has no such block, counted from 0.
// ANCHOR: block_map
pub fn block_map(capture: &Capture, block: usize) -> Result<Chart> {
    let heads = capture.weights.get(block).map_or(0, Vec::len);
    let panel = |head| -> Result<Chart> {
        let map = head_map(capture, block, head)?;
        Ok(Chart::Heatmap(Heatmap { title: format!("head {}", head + 1), ..map }))
    };
    let panels = (0..heads.max(1)).map(panel).collect::<Result<_>>()?;
    Ok(Chart::Panels(Panels {
        title: format!("{}: block {}", capture.word, block + 1),
        description: format!(
            "In each of {heads} heads, how much each token of {}, a row, looks at each \
             token, a column.",
            capture.word
        ),
        columns: 2,
        panels,
    }))
}
// ANCHOR_END: block_map

/// All heads of all blocks, every token on both axes. The lines part what was given, letters and `<sep>`, from the
/// phonemes.
// ANCHOR: model_map
pub fn model_map(capture: &Capture) -> Chart {
    let heads = capture.weights.first().map_or(0, Vec::len);
    let blocks = capture.weights.len();
    let names = |name: &str, count: usize| -> Vec<String> {
        (1..=count).map(|number| format!("{name} {number}")).collect()
    };
    Chart::Grid(Grid {
        title: format!("{}: every head of every block", capture.word),
        description: format!(
            "{blocks} blocks of {heads} heads, a heatmap for each: how much each token \
             of {}, a row, looks at each token, a column.",
            capture.word
        ),
        down: names("block", blocks),
        across: names("head", heads),
        row_axis: "query".into(),
        column_axis: "key".into(),
        rows: capture.tokens.clone(),
        columns: capture.tokens.clone(),
        divided_after: Some(capture.prefix),
        min: 0.0,
        max: 1.0,
        values: capture.weights.clone(),
    })
}
// ANCHOR_END: model_map

/// A number for each head: blocks down, heads across. The scale begins at 0, or below if a number does, and ends at the
/// largest number, or at `full` if that is more.
///
/// # Shapes
/// `values`: `[block][head]`.
pub fn map_of_heads(
    title: &str,
    description: &str,
    values: Vec<Vec<f64>>,
    full: f64,
) -> Heatmap {
    let names = |count: usize| (1..=count).map(|number| number.to_string()).collect();
    let all = || values.iter().flatten().copied();
    Heatmap {
        title: title.to_owned(),
        description: description.to_owned(),
        row_axis: "block".into(),
        column_axis: "head".into(),
        rows: names(values.len()),
        columns: names(values.first().map_or(0, Vec::len)),
        min: all().fold(0.0, f64::min),
        max: all().fold(full, f64::max),
        show_values: true,
        values,
    }
}

/// The weights of one head, `[T][T]`.
fn weights(capture: &Capture, block: usize, head: usize) -> Result<&[Vec<f64>]> {
    let found = capture.weights.get(block).and_then(|heads| heads.get(head));
    found.map(Vec::as_slice).ok_or_else(|| {
        let heads = capture.weights.first().map_or(0, Vec::len);
        let problem = format!(
            "block {block}, head {head}: there are {} × {heads}, counted from 0",
            capture.weights.len()
        );
        Error::input("head map", problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use self_attention::block::NormPlacement;
    use self_attention::visualization::inside::tests::{phonemes, pronouncer};

    fn capture() -> Capture {
        let pronouncer = pronouncer(NormPlacement::Pre);
        Capture::of(&pronouncer, "tough", &phonemes("T AH F")).unwrap()
    }

    #[test]
    fn a_head_is_drawn_with_all_tokens_on_both_axes() {
        let capture = capture();
        let map = head_map(&capture, 1, 2).unwrap();
        assert_eq!(map.rows.join(" "), "t o u g h <sep> T AH F");
        assert_eq!(map.columns, map.rows);
        assert_eq!(map.values, capture.weights[1][2]);
        assert_eq!(map.title, "tough: block 2, head 3");
        let error = head_map(&capture, 2, 0).unwrap_err().to_string();
        assert_eq!(error, "head map: block 2, head 0: there are 2 × 4, counted from 0");
        assert!(head_map(&capture, 0, 4).is_err());
    }

    #[test]
    fn a_block_has_a_panel_for_each_head_and_the_model_a_map() {
        let capture = capture();
        let svg = block_map(&capture, 0).unwrap().to_svg().unwrap();
        for head in 1..=4 {
            assert!(svg.contains(&format!("head {head}")), "head {head}");
        }
        assert!(block_map(&capture, 2).is_err());
        let chart = model_map(&capture);
        assert!(chart.to_svg().is_ok());
        let grid = match chart {
            Chart::Grid(grid) => Some(grid),
            _ => None,
        };
        let grid = grid.unwrap();
        assert_eq!((grid.down.len(), grid.across.len()), (2, 4));
        assert_eq!((grid.divided_after, grid.rows[5].as_str()), (Some(6), "<sep>"));
        assert_eq!(grid.values, capture.weights);
    }

    #[test]
    fn the_scale_of_a_map_of_heads_holds_all_its_numbers() {
        let map =
            map_of_heads("Rise", "By head.", vec![vec![-0.2, 3.0], vec![0.0, 1.0]], 1.0);
        assert_eq!((map.min, map.max), (-0.2, 3.0));
        assert_eq!((map.rows.concat(), map.columns.concat()), ("12".into(), "12".into()));
        let map = map_of_heads("Share", "By head.", vec![vec![0.2, 0.3]], 1.0);
        assert_eq!((map.min, map.max), (0.0, 1.0));
        assert!(Chart::Heatmap(map).to_svg().is_ok());
    }
}
