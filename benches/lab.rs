//! dev
use loadshed::{Adaptive, Budget, lab::*};
use std::{collections::HashMap, sync::Mutex, sync::atomic::*, time::Instant};

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let get = |k: &str| {
        args.iter()
            .find_map(|a| a.strip_prefix(k).map(str::to_owned))
    };
    let seeds: u64 = get("seeds=").map_or(2, |v| v.parse().unwrap());
    let first: u64 = get("first=").map_or(1, |v| v.parse().unwrap());
    let sizes = get("sizes=").unwrap_or("tsm".into());
    let filter = get("only=").unwrap_or_default();
    let trace = get("trace=").is_some();
    let ratio: f64 = get("ratio=").map_or(0.85, |v| v.parse().unwrap());
    let min: f64 = get("below=").map_or(9.0, |v| v.parse().unwrap());
    let initial: Option<usize> = get("initial=").map(|v| v.parse().unwrap());
    let mut jobs = vec![];
    for (c, size) in ['t', 's', 'm', 'l'].into_iter().zip(Size::ALL) {
        if !sizes.contains(c) {
            continue;
        }
        for sc in scenarios(size, Length::Short) {
            if filter.split('|').any(|f| sc.name.contains(f)) {
                for seed in first..first + seeds {
                    jobs.push((c, sc.clone(), seed));
                }
            }
        }
    }
    let next = AtomicUsize::new(0);
    let cache: Mutex<HashMap<String, Vec<(usize, f64)>>> = Mutex::new(
        std::fs::read_to_string("/tmp/oracle.txt")
            .unwrap_or_default()
            .lines()
            .map(|l| {
                let mut it = l.split('\t');
                let k = it.next().unwrap().to_owned();
                (
                    k,
                    it.map(|x| {
                        let (a, b) = x.split_once(' ').unwrap();
                        (a.parse().unwrap(), b.parse().unwrap())
                    })
                    .collect(),
                )
            })
            .collect(),
    );
    let out = Mutex::new(vec![]);
    let t0 = Instant::now();
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some((c, sc, seed)) = jobs.get(i) else {
                        return;
                    };
                    let key = format!("{c} {} {seed}", sc.name);
                    let known = cache.lock().unwrap().get(&key).cloned();
                    let oracle = known.unwrap_or_else(|| {
                        let o: Vec<(usize, f64)> = Oracle::of(sc, *seed)
                            .best
                            .iter()
                            .map(|(_, r)| (r.good, r.latency(0.99).as_secs_f64()))
                            .collect();
                        cache.lock().unwrap().insert(key, o.clone());
                        o
                    });
                    let report = Lab::seed(*seed).ratio(ratio).run(sc, || match initial {
                        None => Budget::adaptive(),
                        Some(n) => Budget::new(Adaptive::default().initial(n)),
                    });
                    out.lock().unwrap().push((i, report, oracle));
                }
            });
        }
    });
    let dump: String = cache
        .lock()
        .unwrap()
        .iter()
        .map(|(k, v)| {
            format!(
                "{k}\t{}\n",
                v.iter()
                    .map(|(a, b)| format!("{a} {b}"))
                    .collect::<Vec<_>>()
                    .join("\t")
            )
        })
        .collect();
    std::fs::write("/tmp/oracle.txt", dump).unwrap();
    let mut out = out.into_inner().unwrap();
    out.sort_by_key(|o| o.0);
    let (mut rows, mut good) = (0, 0);
    let mut all = vec![];
    for group in
        out.chunk_by(|a, b| jobs[a.0].0 == jobs[b.0].0 && jobs[a.0].1.name == jobs[b.0].1.name)
    {
        let (c, sc, _) = &jobs[group[0].0];
        for p in 0..sc.phases.len() {
            let n = group.len() as f64;
            let score: Vec<f64> = group
                .iter()
                .map(|(_, r, o)| r.phases[p].good as f64 / (o[p].0 as f64).max(1.0))
                .collect();
            let mean = score.iter().sum::<f64>() / n;
            let worst = score.iter().cloned().fold(9.0, f64::min);
            let p99 = group
                .iter()
                .map(|(_, r, o)| r.phases[p].latency(0.99).as_secs_f64() / o[p].1)
                .sum::<f64>()
                / n;
            let p99a = group
                .iter()
                .map(|(_, r, _)| r.phases[p].latency(0.99).as_secs_f64())
                .sum::<f64>()
                / n;
            let ph = |f: fn(&PhaseReport) -> f64| {
                group.iter().map(|(_, r, _)| f(&r.phases[p])).sum::<f64>() / n
            };
            let refused = ph(|r| r.refused as f64 / r.offered.max(1) as f64);
            let back = group
                .iter()
                .map(|(_, r, o)| {
                    r.phases[p]
                        .recovers_to(o[p].0 as f64 / r.phases[p].length.as_secs_f64())
                        .map_or(999.0, |d| d.as_secs_f64())
                })
                .fold(0.0, f64::max);
            let crit = ph(|r| r.critical.1 as f64 / r.critical.0.max(1) as f64);
            rows += 1;
            all.push(mean);
            if mean >= 0.95 {
                good += 1;
            }
            if mean < min || worst < min - 0.05 {
                println!(
                    "{c} {:32.32} {:14} {mean:.3} worst {worst:.3} ref {refused:.3} p99 {p99a:.2} ({p99:.1}x) 90% {back:.0} lim {:.0} ±{:.2} cr {crit:.4}",
                    sc.name,
                    sc.phases[p].name,
                    ph(|r| r.limit().0),
                    ph(|r| r.limit().1)
                );
            }
        }
        if trace {
            for ph in &group[0].1.phases {
                println!("-- {}", ph.name);
                for (i, t) in ph.ticks.iter().enumerate() {
                    println!("{:5.1} {:?}", i as f64 / 10.0, t);
                }
            }
        }
    }
    all.sort_by(|a: &f64, b| a.total_cmp(b));
    let below = |x: f64| all.iter().filter(|a| **a < x).count();
    println!(
        "<.5: {} <.8: {} <.9: {} <.95: {} <.97: {}",
        below(0.5),
        below(0.8),
        below(0.9),
        below(0.95),
        below(0.97)
    );
    println!("{good} of {rows} rows at .95; {:?}", t0.elapsed());
}
