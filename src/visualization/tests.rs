//! What every figure must be, whatever it shows.

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn heatmap() -> Heatmap {
    let (queries, keys) = (names(&["t", "<sep>", "R&B"]), names(&["t", "<sep>"]));
    let weights = vec![vec![1.0, 0.0], vec![0.25, 0.75], vec![1.0 / 3.0, 2.0 / 3.0]];
    Heatmap::attention(
        "What <sep> sees",
        "Three queries & two keys.",
        &queries,
        &keys,
        weights,
    )
}

fn curves() -> Curves {
    let points = |factor: f64| {
        (6..12)
            .map(|n| (f64::from(1 << n), factor * f64::from(1 << n)))
            .collect::<Vec<_>>()
    };
    Curves {
        title: "Time of a call".into(),
        description: "Both rise with T; the fused kernel stays below.".into(),
        x_axis: Axis::log("T"),
        y_axis: Axis::log("time (ms)"),
        series: vec![
            Series::new("explicit", points(0.01)).with_spread(vec![0.1; 6]),
            Series::new("fused", points(0.003)).with_dashes(),
        ],
        references: vec![Reference { name: "a frame".into(), value: 16.7 }],
    }
}

fn diagram() -> Diagram {
    let nodes = vec![
        Node::new("x", ["x"], (0, 0)).with_span(2),
        Node::new("norm", ["norm", "R&B <sep>"], (1, 0)).with_series(1),
        Node::new("sum", ["+"], (2, 1)),
    ];
    let arrows = vec![
        Arrow::new("x", "norm").with_label("[B, T, E]"),
        Arrow::new("norm", "sum").with_dashes(),
        Arrow::new("sum", "x"),
    ];
    Diagram {
        title: "Parts & arrows".into(),
        description: "x, norm and a sum.".into(),
        columns: 2,
        nodes,
        arrows,
    }
}

fn grid() -> Grid {
    Grid {
        title: "Heads & blocks".into(),
        description: "Two maps.".into(),
        down: names(&["block 1"]),
        across: names(&["head 1", "head 2"]),
        row_axis: "query".into(),
        column_axis: "key".into(),
        rows: names(&["t", "<sep>", "R&B"]),
        columns: names(&["t", "<sep>"]),
        divided_after: Some(1),
        min: 0.0,
        max: 1.0,
        values: vec![vec![heatmap().values; 2]],
    }
}

fn panels(panels: Vec<Chart>) -> Chart {
    Chart::Panels(Panels {
        title: "Side by side".into(),
        description: "All charts of this test.".into(),
        columns: 2,
        panels,
    })
}

fn all() -> Vec<Chart> {
    let (heatmap, curves) = (Chart::Heatmap(heatmap()), Chart::Curves(curves()));
    let (diagram, grid) = (Chart::Diagram(diagram()), Chart::Grid(grid()));
    let mixed =
        panels(vec![heatmap.clone(), curves.clone(), diagram.clone(), grid.clone()]);
    let twins = panels(vec![curves.clone(), curves.clone()]);
    vec![heatmap, curves, diagram, grid, mixed, twins]
}

fn reason(chart: Chart) -> String {
    chart.to_svg().unwrap_err().to_string()
}

#[test]
fn svg_is_well_formed_and_names_itself() {
    for chart in all() {
        let svg = chart.to_svg().unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let root = document.root_element();
        let text_of = |id: &str| {
            let node =
                root.children().find(|node| node.attribute("id") == Some(id)).unwrap();
            node.text().unwrap().to_owned()
        };
        let ids: Vec<_> = root.attribute("aria-labelledby").unwrap().split(' ').collect();
        assert_eq!(root.attribute("role"), Some("img"));
        assert_eq!(text_of(ids[0]), chart.title());
        assert_eq!(text_of(ids[1]), chart.description());
    }
}

#[test]
fn svg_fits_into_markdown_and_takes_its_colours_from_the_theme() {
    for chart in all() {
        let svg = chart.to_svg().unwrap();
        assert!(svg.starts_with("<svg"));
        assert!(
            svg.lines().all(|line| !line.trim().is_empty()),
            "a blank line ends an HTML block"
        );
        let drawing = svg.split_once("</style>").unwrap().1;
        assert!(!drawing.contains('#'), "a fixed colour was left in {}", chart.title());
    }
}

#[test]
fn labels_are_shown_as_they_are() {
    let svg = Chart::Heatmap(heatmap()).to_svg().unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap();
    let texts: Vec<_> = document
        .descendants()
        .filter(|node| node.has_tag_name("text"))
        .map(|n| n.text())
        .collect();
    for label in ["<sep>", "R&B", "0.33", "query ↓ · key →"] {
        assert!(texts.contains(&Some(label)), "{label} is missing from {texts:?}");
    }
}

#[test]
fn the_same_chart_gives_the_same_bytes() {
    for chart in all() {
        let json = chart.to_json().unwrap();
        let again = Chart::from_json(&json).unwrap();
        assert_eq!(again.to_json().unwrap(), json);
        assert_eq!(again.to_svg().unwrap(), chart.to_svg().unwrap());
    }
}

#[test]
fn error_bars_stand_beside_each_other_and_within_the_plot() {
    let bars = |values: [f64; 2]| {
        let points = vec![(1.0, values[0]), (2.0, values[1])];
        Series::new("a line", points).with_error_bars(vec![0.5, 20.0])
    };
    let chart = |log: bool| {
        Chart::Curves(Curves {
            y_axis: Axis { log, ..Axis::linear("error (%)") },
            x_axis: Axis::linear("blocks"),
            series: vec![bars([3.0, 4.0]), bars([3.0, 5.0])],
            references: Vec::new(),
            ..curves()
        })
    };
    for log in [false, true] {
        let svg = chart(log).to_svg().unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        // A bar is a stroke of six points; the two series have two each.
        let strokes = document.descendants().filter_map(|node| node.attribute("points"));
        let bars: Vec<Vec<(f64, f64)>> = strokes
            .map(|points| {
                points
                    .split_whitespace()
                    .map(|point| point.split_once(',').unwrap())
                    .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
                    .collect::<Vec<_>>()
            })
            .filter(|points| points.len() == 6 && points[0].1 == points[1].1)
            .collect();
        assert_eq!(bars.len(), 4, "{svg}");
        let middles: Vec<f64> = bars.iter().map(|bar| bar[2].0).collect();
        assert!(middles[0] < middles[2] && middles[1] < middles[3], "{middles:?}");
        let height: f64 = document
            .root_element()
            .attribute("viewBox")
            .and_then(|viewed| viewed.split(' ').nth(3))
            .unwrap()
            .parse()
            .unwrap();
        let ends = bars.iter().flatten().map(|point| point.1);
        let is_within = |y: f64| 0.0 < y && y < 10.0 * height; // drawn in tenths
        assert!(ends.clone().all(is_within), "{:?}", ends.collect::<Vec<_>>());
    }
    let Chart::Curves(mut unequal) = chart(false) else { panic!("these are curves") };
    unequal.series[0].spread = Some(vec![1.0]);
    assert!(reason(Chart::Curves(unequal)).contains("has 1 spreads for 2 points"));
}

#[test]
fn figures_stay_small() {
    let tokens = names(&["t", "o", "u", "g", "h", "<sep>", "T", "AH", "F", "<eos>"]);
    let weights = (0..10)
        .map(|i| (0..10).map(|j| f64::from((i * j) % 7) / 7.0).collect())
        .collect();
    let mut head = Heatmap::attention("Head", "One head.", &tokens, &tokens, weights);
    head.show_values = false;
    let svg = panels(vec![Chart::Heatmap(head); 4]).to_svg().unwrap();
    assert!(svg.len() < 40_000, "{} bytes", svg.len());
}

#[test]
fn json_keeps_a_row_on_a_line() {
    let json = Chart::Heatmap(heatmap()).to_json().unwrap();
    assert!(json.contains("    [0.3333, 0.6667]\n"), "{json}");
    assert!(json.contains(r#""columns": ["t", "<sep>"],"#), "{json}");
}

#[test]
fn brackets_in_labels_do_not_disturb_the_json() {
    let odd = names(&["[", "]", "a ["]);
    let chart = Chart::Heatmap(Heatmap {
        columns: odd.clone(),
        values: vec![vec![0.5; 3]; 3],
        ..heatmap()
    });
    assert_eq!(Chart::from_json(&chart.to_json().unwrap()).unwrap(), chart);
}

#[test]
fn bad_heatmaps_are_refused_by_name() {
    let mut chart = heatmap();
    chart.values[1].pop();
    let message = reason(Chart::Heatmap(chart));
    assert_eq!(
        message,
        "figure `What <sep> sees`: row 1 (`<sep>`) has 1 values for 2 column labels"
    );

    let mut chart = heatmap();
    chart.values[2][1] = f64::NAN;
    let message = reason(Chart::Heatmap(chart));
    assert!(
        message.contains(
            "row 2 (`R&B`), column 1 (`<sep>`): NaN is not a number from 0 to 1"
        ),
        "{message}"
    );

    let mut chart = heatmap();
    chart.values[0][0] = 1.11; // as when the weights are taken after dropout
    assert!(reason(Chart::Heatmap(chart)).contains("1.11 is not a number from 0 to 1"));

    let mut chart = heatmap();
    chart.rows.clear();
    assert!(reason(Chart::Heatmap(chart)).contains("0 rows and 2 columns"));
}

#[test]
fn bad_curves_are_refused_by_name() {
    let mut chart = curves();
    chart.series[1].points[3].1 = f64::INFINITY;
    assert!(reason(Chart::Curves(chart))
        .contains("series `fused`, point 3, y: inf is not a finite number"));

    let mut chart = curves();
    chart.series[0].points[0].1 = 0.0;
    assert!(reason(Chart::Curves(chart)).contains("logarithmic"));

    let mut chart = curves();
    chart.series[0].points.swap(0, 1);
    assert!(reason(Chart::Curves(chart))
        .contains("x does not ascend from point 0 to point 1"));

    let mut chart = curves();
    chart.series[0].spread = Some(vec![0.1]);
    assert!(reason(Chart::Curves(chart)).contains("1 spreads for 6 points"));

    let mut chart = curves();
    chart.series.clear();
    assert!(reason(Chart::Curves(chart)).contains("0 series"));
}

#[test]
fn bad_panels_are_refused_by_the_name_of_the_panel() {
    let mut bad = heatmap();
    bad.values[0][0] = f64::NAN;
    assert!(
        reason(panels(vec![Chart::Heatmap(bad)])).starts_with("figure `What <sep> sees`")
    );
    assert!(reason(panels(vec![panels(vec![])])).contains("panels cannot hold panels"));
    assert!(reason(panels(vec![])).contains("at least one"));
}

#[test]
fn figures_need_words() {
    let chart = Chart::Heatmap(Heatmap { description: " ".into(), ..heatmap() });
    assert!(reason(chart).contains("needs a description"));
}

#[test]
fn files_are_replaced_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let chart = Chart::Curves(curves());
    Chart::Heatmap(heatmap()).save(folder.path(), "figure").unwrap();
    chart.save(folder.path(), "figure").unwrap();
    let mut files: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    files.sort();
    assert_eq!(files, ["figure.json", "figure.svg"]);
    let read = Chart::load(folder.path().join("figure.json")).unwrap();
    assert_eq!(
        read.to_svg().unwrap(),
        fs::read_to_string(folder.path().join("figure.svg")).unwrap()
    );
}

#[test]
fn a_damaged_file_is_named_with_its_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("figure.json");
    fs::write(&path, "{\n  \"kind\": \"heatmap\",\n  \"title\": 3\n}").unwrap();
    let message = Chart::load(&path).unwrap_err().to_string();
    assert!(
        message.contains("figure.json: ")
            && message.contains("integer `3`, expected a string"),
        "{message}"
    );
    assert!(Chart::load(folder.path().join("none.json")).is_err());
}

#[test]
fn odd_but_valid_data_can_be_drawn() {
    let one = |points: Vec<(f64, f64)>, x_axis: Axis, y_axis: Axis| {
        let series = vec![Series::new("a", points)];
        Chart::Curves(Curves { series, x_axis, y_axis, references: vec![], ..curves() })
            .to_svg()
            .unwrap()
    };
    let (x, y) = (Axis::log("x"), Axis::log("y"));
    let (plain_x, plain_y) =
        (Axis::linear("x"), Axis::linear("y").with_include([0.0, 1.0]));
    for svg in [
        one(vec![(3.0, 3.0)], x.clone(), y.clone()),
        one(vec![(3.1, 1e-12), (3.2, 1e12)], x, y),
        one(vec![(0.0, 0.0)], plain_x.clone(), plain_y.clone()),
        one(vec![(-5.0, -1e9), (5.0, 1e-9)], plain_x, plain_y),
    ] {
        assert!(
            !svg.contains("NaN")
                && !svg.contains("-2147483648")
                && !svg.contains("2147483647"),
            "{svg}"
        );
    }
    let many: Vec<String> = (0..60).map(|n| format!("token {n}")).collect();
    let wide = Heatmap::attention(
        "Wide",
        "Sixty keys.",
        &many[..1],
        &many,
        vec![vec![1.0 / 60.0; 60]],
    );
    assert!(Chart::Heatmap(wide).to_svg().is_ok());
}
