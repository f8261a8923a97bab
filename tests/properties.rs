//! What must hold of attention whatever the numbers are.
//!
//! Each test draws many small problems in float64. When one fails, proptest shrinks it to the smallest that still fails,
//! prints its numbers, and keeps its seed in `properties.regressions` beside this file, to be tried first from then on.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestCaseResult};

use self_attention::prelude::*;

/// What rounding may do to numbers of the size drawn here.
const ROUNDING: f64 = 1e-12;

/// One problem: sizes, numbers, and a mask that may close anything, whole rows included.
#[derive(Clone, Debug)]
struct Problem {
    sizes: Sizes,
    query: Vec<f64>, // [B, H, T, D]
    key: Vec<f64>,   // [B, H, S, D]
    value: Vec<f64>, // [B, H, S, D]
    open: Vec<bool>, // [B, 1, T, S]
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: i64,
    heads: i64,
    queries: i64,
    keys: i64,
    width: i64,
}

impl Problem {
    fn query(&self) -> Tensor {
        let Sizes { batch, heads, queries, width, .. } = self.sizes;
        Tensor::from_slice(&self.query).reshape([batch, heads, queries, width])
    }

    fn key(&self) -> Tensor {
        let Sizes { batch, heads, keys, width, .. } = self.sizes;
        Tensor::from_slice(&self.key).reshape([batch, heads, keys, width])
    }

    fn value(&self) -> Tensor {
        let Sizes { batch, heads, keys, width, .. } = self.sizes;
        Tensor::from_slice(&self.value).reshape([batch, heads, keys, width])
    }

    fn mask(&self) -> Mask {
        let Sizes { batch, queries, keys, .. } = self.sizes;
        Mask::new(Tensor::from_slice(&self.open).reshape([batch, 1, queries, keys]))
            .unwrap()
    }

    fn attend(&self) -> Attended {
        attend(&self.query(), &self.key(), &self.value(), &self.mask())
    }
}

fn attend(query: &Tensor, key: &Tensor, value: &Tensor, mask: &Mask) -> Attended {
    scaled_dot_product_attention(query, key, value, Some(mask), &Dropout::off()).unwrap()
}

/// The context by both ways of computing it.
fn contexts(query: &Tensor, key: &Tensor, value: &Tensor, mask: &Mask) -> [Tensor; 2] {
    [
        attend(query, key, value, mask).context,
        fused_attention(query, key, value, Some(mask)).unwrap(),
    ]
}

/// A problem with queries of one sequence and keys of another.
fn problem() -> impl Strategy<Value = Problem> {
    let sizes = (1..=2i64, 1..=2i64, 1..=5i64, 1..=5i64, 1..=4i64);
    sizes
        .prop_map(|(batch, heads, queries, keys, width)| Sizes {
            batch,
            heads,
            queries,
            keys,
            width,
        })
        .prop_flat_map(problem_of)
}

/// A problem in which a sequence attends to itself: as many keys as queries.
fn self_problem() -> impl Strategy<Value = Problem> {
    let sizes = (1..=2i64, 1..=2i64, 1..=6i64, 1..=4i64);
    sizes
        .prop_map(|(batch, heads, queries, width)| Sizes {
            batch,
            heads,
            queries,
            keys: queries,
            width,
        })
        .prop_flat_map(problem_of)
}

fn problem_of(sizes: Sizes) -> impl Strategy<Value = Problem> {
    let Sizes { batch, heads, queries, keys, width } = sizes;
    let numbers =
        |positions: i64| vec(-3.0..3.0, (batch * heads * positions * width) as usize);
    let open = vec(prop::bool::weighted(0.7), (batch * queries * keys) as usize);
    (numbers(queries), numbers(keys), numbers(keys), open).prop_map(
        move |(query, key, value, open)| Problem { sizes, query, key, value, open },
    )
}

/// A problem, and `0..length` in any order, where the length is one of its sizes.
fn problem_and_order(
    length: fn(&Sizes) -> i64,
) -> impl Strategy<Value = (Problem, Vec<i64>)> {
    problem().prop_flat_map(move |problem| {
        let order: Vec<_> = (0..length(&problem.sizes)).collect();
        (Just(problem), Just(order).prop_shuffle())
    })
}

/// Fails a property unless two tensors are the same but for rounding. A NaN in either is a difference.
fn same(a: &Tensor, b: &Tensor) -> TestCaseResult {
    prop_assert_eq!(a.size(), b.size());
    let difference = (a - b).abs().max().double_value(&[]);
    prop_assert!(difference <= ROUNDING, "these differ by {difference:e}:\n{a}\n{b}");
    Ok(())
}

fn config(cases: u32) -> ProptestConfig {
    let beside_this_file = FileFailurePersistence::WithSource("regressions");
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(beside_this_file)),
        ..Default::default()
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn a_row_sums_to_one_over_its_open_keys_and_a_closed_key_gets_exactly_zero(problem in problem()) {
        let weights = problem.attend().weights; // [B, H, T, S]
        let open = problem.mask().allowed().expand_as(&weights);
        prop_assert!(bool::try_from(weights.ge(0.0).all()).unwrap(), "a negative weight:\n{weights}");
        let closed = weights.masked_select(&open.logical_not());
        prop_assert_eq!(&closed, &closed.zeros_like());
        let one_or_none = open.any_dim(-1, false).to_kind(Kind::Double); // [B, H, T]
        same(&weights.sum_dim_intlist(-1, false, Kind::Double), &one_or_none)?;
    }

    #[test]
    fn fused_attention_gives_the_same_context(problem in problem()) {
        let [explicit, fused] = contexts(&problem.query(), &problem.key(), &problem.value(), &problem.mask());
        same(&explicit, &fused)?;
    }

    #[test]
    fn permuting_keys_and_values_together_changes_nothing(
        (problem, order) in problem_and_order(|sizes| sizes.keys)
    ) {
        let order = Tensor::from_slice(&order);
        let [key, value] = [problem.key(), problem.value()].map(|x| x.index_select(-2, &order));
        let mask = Mask::new(problem.mask().allowed().index_select(-1, &order)).unwrap();
        let [before, after] = [problem.attend(), attend(&problem.query(), &key, &value, &mask)];
        same(&after.context, &before.context)?;
        same(&after.weights, &before.weights.index_select(-1, &order))?; // each weight follows its key
    }

    #[test]
    fn permuting_queries_permutes_the_output(
        (problem, order) in problem_and_order(|sizes| sizes.queries)
    ) {
        let order = Tensor::from_slice(&order);
        let query = problem.query().index_select(-2, &order);
        let mask = Mask::new(problem.mask().allowed().index_select(-2, &order)).unwrap();
        let [before, after] = [problem.attend(), attend(&query, &problem.key(), &problem.value(), &mask)];
        same(&after.context, &before.context.index_select(-2, &order))?;
        same(&after.weights, &before.weights.index_select(-2, &order))?;
    }

    /// The value of a closed key must be finite: its weight is 0, and 0 · ∞ is NaN. Its key need not be, since closing
    /// fills the score. (The fused kernel adds −∞ to the score instead, and there a NaN stays a NaN.)
    #[test]
    fn a_closed_key_can_be_anything(
        problem in problem(),
        at in any::<prop::sample::Index>(),
        key in prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 0.0]),
        value in -1e9..1e9,
    ) {
        let before = problem.attend();
        let at = at.index(problem.sizes.keys as usize) as i64;
        let [other_key, other_value] = [problem.key(), problem.value()];
        let _ = [other_key.select(-2, at).fill_(key), other_value.select(-2, at).fill_(value)];
        let after = attend(&problem.query(), &other_key, &other_value, &problem.mask());

        // The queries that may not attend to this key.
        let unmoved = problem.mask().allowed().select(-1, at).logical_not().unsqueeze(-1); // [B, 1, T, 1]
        for (after, before) in [(after.context, before.context), (after.weights, before.weights)] {
            prop_assert_eq!(after.masked_select(&unmoved), before.masked_select(&unmoved));
        }
    }

    #[test]
    fn with_a_causal_mask_the_future_changes_nothing_before_it(
        (problem, other, now) in self_problem().prop_flat_map(|problem| {
            (Just(problem.clone()), problem_of(problem.sizes), 0..problem.sizes.queries)
        })
    ) {
        let causal = Mask::causal(problem.sizes.queries, Device::Cpu).unwrap();
        let with_another_future = |here: Tensor, there: Tensor| {
            let future = problem.sizes.queries - now - 1;
            Tensor::cat(&[here.narrow(-2, 0, now + 1), there.narrow(-2, now + 1, future)], -2)
        };
        let before = contexts(&problem.query(), &problem.key(), &problem.value(), &causal);
        let after = contexts(
            &with_another_future(problem.query(), other.query()),
            &with_another_future(problem.key(), other.key()),
            &with_another_future(problem.value(), other.value()),
            &causal,
        );
        for (after, before) in after.iter().zip(&before) {
            prop_assert_eq!(after.narrow(-2, 0, now + 1), before.narrow(-2, 0, now + 1)); // to the last bit
        }
    }

    #[test]
    fn closing_padding_is_the_same_as_cutting_it_off(problem in self_problem()) {
        let Sizes { batch, keys, .. } = problem.sizes;
        let length = (keys + 1) / 2;
        let lengths = Tensor::full([batch], length, (Kind::Int64, Device::Cpu));
        let padding = Mask::padding(&lengths, keys).unwrap();
        let [key, value] = [problem.key(), problem.value()].map(|x| x.narrow(-2, 0, length));
        let all = Mask::padding(&lengths, length).unwrap();
        let closed = contexts(&problem.query(), &problem.key(), &problem.value(), &padding);
        let cut = contexts(&problem.query(), &key, &value, &all);
        for (closed, cut) in closed.iter().zip(&cut) {
            same(closed, cut)?;
        }
    }

    #[test]
    fn the_context_lies_between_the_smallest_and_the_largest_open_value(problem in problem()) {
        let value = problem.value().unsqueeze(-3); // [B, H, 1, S, D]
        let closed = problem.mask().closed().unwrap().unsqueeze(-1); // [B, 1, T, S, 1]
        let smallest = value.masked_fill(&closed, f64::INFINITY).amin(-2, false); // [B, H, T, D]
        let largest = value.masked_fill(&closed, f64::NEG_INFINITY).amax(-2, false); // [B, H, T, D]
        let some_open = problem.mask().allowed().any_dim(-1, true); // [B, 1, T, 1]
        for context in contexts(&problem.query(), &problem.key(), &problem.value(), &problem.mask()) {
            let above = context.ge_tensor(&(&smallest - ROUNDING));
            let below = context.le_tensor(&(&largest + ROUNDING));
            // Without an open value there is nothing to lie between, and the context is zero.
            let right = above.logical_and(&below).where_self(&some_open, &context.eq(0.0));
            prop_assert!(bool::try_from(right.all()).unwrap(), "outside:\n{context}\n{smallest}\n{largest}");
        }
    }

    #[test]
    fn a_constant_added_to_all_scores_of_a_row_changes_no_weight(
        problem in problem(),
        constant in -1000.0..1000.0,
    ) {
        let scores = attention_scores(&problem.query(), &problem.key()).unwrap();
        let [before, after] = [&scores, &(&scores + constant)]
            .map(|scores| attention_weights(scores, Some(&problem.mask())).unwrap());
        let difference = (&after - &before).abs().max().double_value(&[]);
        // A sum with a number near a thousand keeps three digits less.
        prop_assert!(difference <= 1000.0 * ROUNDING, "{difference:e}:\n{before}\n{after}");
    }

    #[test]
    fn a_prefix_mask_lies_between_causal_and_open(
        (positions, prefix) in (1..=8i64).prop_flat_map(|positions| (Just(positions), 1..=positions))
    ) {
        let mask = |prefix: i64| {
            let mask = Mask::prefix(&Tensor::from_slice(&[prefix]), positions).unwrap();
            mask.allowed().reshape([positions, positions])
        };
        let causal = Mask::causal(positions, Device::Cpu).unwrap();
        prop_assert_eq!(&mask(1), causal.allowed()); // every position sees the first one anyway
        prop_assert!(bool::try_from(mask(positions).all()).unwrap());
        // A longer prefix opens more and closes nothing.
        let shorter = mask(prefix - 1);
        prop_assert_eq!(&mask(prefix).logical_and(&shorter), &shorter);
    }
}

/// Half the sum of the squares of the context: a number that depends on every query, key and value that can matter.
fn loss(query: &Tensor, key: &Tensor, value: &Tensor, mask: &Mask) -> Tensor {
    attend(query, key, value, mask).context.square().sum(Kind::Double) / 2.0
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn gradients_agree_with_finite_differences(problem in problem()) {
        let mask = problem.mask();
        let inputs = [problem.query(), problem.key(), problem.value()].map(|x| x.set_requires_grad(true));
        let [query, key, value] = &inputs;
        loss(query, key, value, &mask).backward();

        let step = 1e-5;
        type Numbers = fn(&mut Problem) -> &mut Vec<f64>;
        let numbers: [(&str, Numbers); 3] =
            [("query", |p| &mut p.query), ("key", |p| &mut p.key), ("value", |p| &mut p.value)];
        for (input, (name, numbers)) in inputs.iter().zip(numbers) {
            let gradient = Vec::<f64>::try_from(input.grad().reshape([-1])).unwrap();
            for (at, &ours) in gradient.iter().enumerate() {
                let loss_at = |by: f64| {
                    let mut moved = problem.clone();
                    numbers(&mut moved)[at] += by;
                    loss(&moved.query(), &moved.key(), &moved.value(), &mask).double_value(&[])
                };
                let slope = (loss_at(step) - loss_at(-step)) / (2.0 * step);
                let close = (ours - slope).abs() <= 1e-6 * (1.0 + slope.abs());
                prop_assert!(close, "{name}[{at}]: {ours}, by differences {slope}");
            }
        }
    }

    #[test]
    fn fused_attention_has_the_same_gradients(problem in problem()) {
        let gradients = |fused: bool| {
            let inputs = [problem.query(), problem.key(), problem.value()].map(|x| x.set_requires_grad(true));
            let [query, key, value] = &inputs;
            let [explicit, by_kernel] = contexts(query, key, value, &problem.mask());
            let context = if fused { by_kernel } else { explicit };
            context.square().sum(Kind::Double).backward();
            inputs.map(|x| x.grad())
        };
        for (explicit, fused) in gradients(false).iter().zip(&gradients(true)) {
            same(explicit, fused)?;
        }
    }
}
