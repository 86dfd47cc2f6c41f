//! L-BFGS: minimises a smooth convex function from its gradients (Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 7.5).

use std::collections::VecDeque;

/// Steps whose curvature is remembered.
const MEMORY: usize = 8;
const ARMIJO: f64 = 1e-4;
const HALVINGS_MAX: usize = 40;

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ended {
    /// The least value found.
    pub(crate) value: f64,
    /// Steps taken.
    pub(crate) steps: usize,
}

/// Moves `x` to where `function` is least. `function` writes the gradient and returns the value; the search ends when no component of the
/// gradient is larger than `tolerance`, when no step makes it smaller, or after `steps_max`.
pub(crate) fn minimise(
    x: &mut [f64],
    mut function: impl FnMut(&[f64], &mut [f64]) -> f64,
    tolerance: f64,
    steps_max: usize,
) -> Ended {
    let mut gradient = vec![0.0; x.len()];
    let mut value = function(x, &mut gradient);
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::with_capacity(MEMORY);
    let (mut tried, mut tried_gradient) = (x.to_vec(), gradient.clone());
    for steps in 0..steps_max {
        if gradient.iter().all(|g| g.abs() <= tolerance) {
            return Ended { value, steps };
        }
        let direction = direction(&gradient, &memory);
        let slope = dot(&direction, &gradient);
        // The first step has no scale yet: one of length 1 at most.
        let mut length = if memory.is_empty() {
            1.0 / dot(&direction, &direction).sqrt().max(1.0)
        } else {
            1.0
        };
        let found = (0..HALVINGS_MAX).find_map(|_| {
            for ((tried, x), d) in tried.iter_mut().zip(&*x).zip(&direction) {
                *tried = x + length * d;
            }
            let there = function(&tried, &mut tried_gradient);
            let enough = there <= value + ARMIJO * length * slope;
            length /= 2.0;
            enough.then_some(there)
        });
        let Some(there) = found else {
            return Ended { value, steps };
        };
        remember(
            &mut memory,
            difference(&tried, x),
            difference(&tried_gradient, &gradient),
        );
        x.copy_from_slice(&tried);
        gradient.copy_from_slice(&tried_gradient);
        value = there;
    }
    Ended {
        value,
        steps: steps_max,
    }
}

/// The two loops: minus the gradient times the inverse curvature that the memory stands for.
fn direction(gradient: &[f64], memory: &VecDeque<(Vec<f64>, Vec<f64>)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(memory.len());
    for (step, change) in memory.iter().rev() {
        let share = dot(step, &q) / dot(step, change);
        add(&mut q, -share, change);
        shares.push(share);
    }
    if let Some((step, change)) = memory.back() {
        let scale = dot(step, change) / dot(change, change);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((step, change), share) in memory.iter().zip(shares.iter().rev()) {
        let other = dot(change, &q) / dot(step, change);
        add(&mut q, share - other, step);
    }
    q
}

/// Keeps a pair whose curvature is positive, as a convex function's is but for rounding.
fn remember(memory: &mut VecDeque<(Vec<f64>, Vec<f64>)>, step: Vec<f64>, change: Vec<f64>) {
    if dot(&step, &change) <= 1e-12 * dot(&change, &change) {
        return;
    }
    if memory.len() == MEMORY {
        memory.pop_front();
    }
    memory.push_back((step, change));
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut()
        .zip(from)
        .for_each(|(to, from)| *to += factor * from);
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skewed_bowl_has_its_least_value_where_it_should() {
        let centre = [3.0, -1.0, 0.5, 20.0];
        let mut x = [0.0; 4];
        let bowl = |x: &[f64], gradient: &mut [f64]| {
            let mut value = 7.0;
            for i in 0..4 {
                let (weight, off) = (10f64.powi(i as i32 * 2), x[i] - centre[i]);
                value += weight * off * off / 2.0;
                gradient[i] = weight * off;
            }
            value
        };
        let ended = minimise(&mut x, bowl, 1e-6, 200);
        assert!(ended.steps < 200, "{ended:?}");
        assert!(x.iter().zip(centre).all(|(x, c)| (x - c).abs() < 1e-5), "{x:?}");
        assert!((ended.value - 7.0).abs() < 1e-9);
    }

    #[test]
    fn it_stops_where_there_is_nothing_to_gain() {
        let mut x = [1.0];
        let flat = |_: &[f64], gradient: &mut [f64]| {
            gradient[0] = 0.0;
            2.0
        };
        assert_eq!(minimise(&mut x, flat, 1e-6, 9), Ended { value: 2.0, steps: 0 });
    }
}
