use std::time::Duration;

use tokio::time::Instant;

use super::{Outcome, Sample, Window};

#[derive(Clone, Debug, Default)]
pub(super) struct Law {
    mode: Mode,
    target: f64,
    /// S, seconds.
    service: Option<f64>,
    cv2: f64,
    rate: f64,
    peak: f64,
    best: f64,
    hung: f64,
    good_share: f64,
    usual_share: f64,
    ratio: Ratio,
    slack: f64,
    batch: Batch,
    start: Start,
    suspect_since: Option<Instant>,
    calm_since: Option<Instant>,
    busy_since: Option<Instant>,
    standing_since: Option<Instant>,
    last_refused: Option<Instant>,
    previous: f64,
    patience: f64,
    level: f64,
    vanished: bool,
    asked: Option<Instant>,
    ask_took: f64,
    verified: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mode {
    #[default]
    Open,
    Guard,
    Ask { before: f64, periodic: bool, since: f64, drained: bool },
    Hold,
}

#[derive(Clone, Debug, Default)]
struct Start { first: Option<Instant>, latencies: Vec<f64>, n: f64, x: f64 }

#[derive(Clone, Copy, Debug)]
struct Ratio { value: f64, seen: Option<Instant> }

impl Default for Ratio { fn default() -> Self { Self { value: 1.0, seen: None } } }

impl Ratio {
    fn see(&mut self, s: &Sample, now: Instant) {
        let low = s.cap as f64 / s.limit as f64;
        let high = (s.cap + 1) as f64 / s.limit as f64;
        if low <= self.value && self.value < high { self.seen = Some(now); }
        else if high <= self.value || self.seen.is_none_or(|t| secs(now.saturating_duration_since(t)) > 10.0) { self.value = low; self.seen = Some(now); }
    }
}

#[derive(Clone, Debug, Default)]
struct Batch {
    since: Option<Instant>,
    elapsed: f64,
    completed: f64,
    good: f64,
    ok: f64,
    latency: f64,
    square: f64,
    left: f64,
    left_latency: f64,
    in_flight: f64,
    windows: f64,
    refused: usize,
}

fn secs(d: Duration) -> f64 { d.as_secs_f64() }

impl Batch {
    fn rate(&self) -> f64 { if self.elapsed > 0.0 { self.good / self.elapsed } else { 0.0 } }
    fn n(&self) -> f64 { if self.windows > 0.0 { self.in_flight / self.windows } else { 0.0 } }
    fn mean(&self) -> f64 { if self.ok > 0.0 { self.latency / self.ok } else { 0.0 } }
    fn hung(&self) -> f64 {
        let all = self.ok + self.left;
        if all == 0.0 || self.elapsed == 0.0 { return 0.0 }
        self.completed / all * self.left_latency / self.elapsed
    }
    fn cv2(&self) -> f64 { let m = self.mean(); (self.square / self.ok / (m * m) - 1.0).clamp(0.0, 15.0) }
}

const BETA: f64 = 2.0;
/// seconds
const BEARABLE: f64 = 0.7;

fn gain(elapsed: f64, tau: f64) -> f64 { 1.0 - (-elapsed / tau).exp() }

impl Law {
    fn cap(&self, s: f64) -> f64 {
        let k = self.peak * s;
        (self.peak * (BEARABLE * self.patience).max(3.0 * s)).max(k + 4.0 * k.sqrt() + 4.0) + self.hung
    }

    fn margin(&self, k: f64) -> f64 { (self.slack * BETA * (k * (1.0 + self.cv2) / 2.0).sqrt()).max(1.0) }

    fn enough(&self) -> f64 { 16.0 * (1.0 + self.cv2) }

    fn enter(&mut self, mode: Mode, now: Instant, settle: f64) {
        self.mode = mode;
        self.batch = Batch { since: Some(now + Duration::from_secs_f64(settle)), ..Batch::default() };
        self.suspect_since = None; self.calm_since = None; self.standing_since = None;
    }

    pub(super) fn update(&mut self, w: &Window<'_>) -> (Option<f64>, &'static str) {
        let before = self.mode;
        let b0 = self.batch.clone();
        let r = self.step(w);
        static ON: std::sync::OnceLock<u8> = std::sync::OnceLock::new();
        static T0: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let on = *ON.get_or_init(|| std::env::var("DBG").map_or(0, |x| x.parse().unwrap()));
        if on > 0 {
            let t0 = *T0.get_or_init(|| w.now);
            if on == 2 || std::mem::discriminant(&before) != std::mem::discriminant(&self.mode) || matches!(before, Mode::Ask{..}) && self.batch.since != b0.since {
            let b = if self.batch.since != b0.since { &b0 } else { &self.batch };
            eprintln!("{:8.3} {before:.1?} -> {:.1?} {} n {} lim {} -> {:.0?} S {:.4?} X {:.1} peak {:.1} best {:.1} hung {:.1} tgt {:.1} share {:.2}/{:.2} slack {:.2} cv2 {:.1} b[ok {} left {} el {:.3} X {:.1} n {:.1} W {:.4} hung {:.1} ref {}] ref {} ratio {:.2}", secs(w.now - t0), self.mode, r.1, w.in_flight, w.limit, r.0, self.service.unwrap_or(0.0), self.rate, self.peak, self.best, self.hung, self.target, self.good_share, self.usual_share, self.slack, self.cv2, b.ok, b.left, b.elapsed, b.rate(), b.n(), b.mean(), b.hung(), b.refused, w.refused, self.ratio.value);
            }
        }
        (r.0.map(|x| (x.round().max(1.0) / self.ratio.value - 1e-9).ceil()), r.1)
    }

    fn measure(&mut self, w: &Window<'_>) -> (f64, f64) {
        let elapsed = secs(w.elapsed);
        let (mut ok, mut latency, mut left) = (0.0, 0.0, 0.0);
        let since = self.batch.since;
        let open = since.is_none_or(|since| w.now >= since);
        for s in w.samples {
            self.ratio.see(s, w.now);
            self.start.first.get_or_insert(s.admitted_at);
            let l = secs(s.latency);
            let b = &mut self.batch;
            match s.outcome {
                Outcome::Success => {
                    ok += 1.0; latency += l;
                    if open { b.ok += 1.0; b.latency += l; b.square += l * l; }
                    if self.service.is_none() { self.start.latencies.push(l); }
                }
                Outcome::Cancelled | Outcome::Overload => { left += 1.0; if self.service.is_some_and(|s| l > 3.0 * s) { self.patience += 0.05 * (l.min(1.0) - self.patience); } if open { b.left += 1.0; b.left_latency += l; } }
                _ => {}
            }
        }
        if self.service.is_none() && self.good_share == 0.0 && ok > 0.0 { self.good_share = 1.0; self.usual_share = 1.0; }
        if ok + left > 0.0 { self.good_share += gain(ok + left, 16.0) * (ok / (ok + left) - self.good_share); }
        let x = if elapsed > 0.0 { w.completed as f64 * self.good_share / elapsed } else { 0.0 };
        let tau = (3.0 * self.service.unwrap_or(0.05)).max(24.0 / self.rate.max(x).max(1e-9)).clamp(0.1, 2.0);
        if self.service.is_some_and(|s| elapsed > 1.0 + 3.0 * s) { self.good_share = self.usual_share; return (x, 0.0); }
        self.rate += gain(elapsed, tau) * (x - self.rate);
        if open {
            let b = &mut self.batch;
            b.elapsed += elapsed; b.completed += w.completed as f64; b.good += w.completed as f64 * self.good_share;
            b.in_flight += w.in_flight as f64; b.windows += 1.0; b.refused += w.refused;
        }
        (x, if ok > 0.0 { latency / ok } else { 0.0 })
    }

    fn step(&mut self, w: &Window<'_>) -> (Option<f64>, &'static str) {
        let now = w.now;
        let elapsed = secs(w.elapsed);
        let n = w.in_flight as f64;
        self.level = n;
        let (x, wl) = self.measure(w);
        let Some(s) = self.service else { return self.begin(w, x) };
        self.peak = self.peak.max(self.rate);
        let busy = n - self.hung > self.peak * s;
        if busy { self.busy_since.get_or_insert(now); } else { self.busy_since = None; }
        let tau = (6.0 * s).max(32.0 / self.peak.max(1.0)).clamp(0.2, 2.0);
        if self.busy_since.is_some_and(|t| secs(now - t) > tau) && self.rate < self.peak {
            self.peak += gain(elapsed, (BEARABLE * self.patience).max(3.0 * s)) * (self.rate - self.peak);
        }
        self.best = if self.mode == Mode::Open { self.peak } else { self.best.max(self.peak) };
        let k = self.peak * s + self.hung;
        // evidence
        let idle = elapsed > 1.0 + 3.0 * s;
        let vanish = !idle && n > 0.5 * self.target.min(k) && self.good_share < 0.4 * self.usual_share && (wl == 0.0 || wl > 2.0 * s) && self.rate < 0.5 * self.best;
        // calm
        let quiet = w.refused == 0 && (idle || self.good_share > 0.6 * self.usual_share) && n <= k + 2.0 * self.margin(k);
        if quiet { self.calm_since.get_or_insert(now); } else { self.calm_since = None; }
        let calm = self.calm_since.is_some_and(|t| secs(now - t) + elapsed > 1.0 + 3.0 * s + 16.0 / self.best.max(1.0));
        if w.refused > 0 { self.last_refused = Some(now); }
        let pressed = self.last_refused.is_some_and(|t| secs(now - t) < 0.1f64.max(16.0 / self.best.max(1.0)).max(s));
        if n > k + self.margin(k) && pressed { self.standing_since.get_or_insert(now); } else { self.standing_since = None; }
        let stood = self.standing_since.map_or(0.0, |t| secs(now - t));
        if self.mode != Mode::Open && calm {
            self.enter(Mode::Open, now, 0.0);
            self.good_share = self.usual_share;
            return (None, "calm");
        }
        match self.mode {
            Mode::Open => {
                self.usual_share += gain(elapsed, 10.0) * (self.good_share - self.usual_share);
                if self.batch.elapsed > 0.5f64.max(2.0 * s) && self.batch.ok >= self.enough() {
                    let b = self.batch.clone();
                    let m = b.mean();
                    let weight = if m < s { 0.3 } else { (b.elapsed / 20.0).min(0.3) };
                    self.service = Some(s + weight * (m - s));
                    if m <= 2.0 * s {
                        self.hung += 0.3 * (b.hung() - self.hung);
                        self.cv2 += 0.3 * (b.cv2() - self.cv2);
                    }
                    self.batch = Batch { since: Some(now), ..Batch::default() };
                }
                if vanish { return self.ask(now, self.best, false, true); }
                let cap = self.cap(s);
                if n > cap {
                    let since = *self.suspect_since.get_or_insert(now);
                    if secs(now - since) >= 1.5 * s {
                        self.target = cap;
                        self.enter(Mode::Guard, now, 0.0);
                        return (Some(cap), "guard");
                    }
                } else { self.suspect_since = None; }
                (None, "open")
            }
            Mode::Guard => {
                if vanish { return self.ask(now, self.best, false, true); }
                let falling = self.batch.rate() < 0.7 * self.best && stood > 2.0 * s && self.batch.elapsed > 2.0 * s;
                if stood > 1.0f64.max(3.0 * s) || falling { return self.ask(now, self.peak, false, false); }
                self.target = self.cap(s);
                (Some(self.target), "guard")
            }
            Mode::Ask { before, periodic, since, drained } => {
                let b = &self.batch;
                let since = since + elapsed;
                if !drained {
                    if n <= self.target.ceil() {
                        self.enter(Mode::Ask { before, periodic, since, drained: true }, now, 2.0 * s);
                    } else {
                        self.mode = Mode::Ask { before, periodic, since, drained };
                    }
                    return (Some(self.target), "asking");
                }
                let l = b.mean();
                let wait = if self.vanished { 1.0f64.max(2.0 * l) } else { l };
                let need = self.enough() * if periodic { 1.0 } else { 0.5 };
                if b.elapsed >= wait && b.ok + b.left >= need {
                    let noise = (2.0 / b.ok.max(1.0).sqrt()).max(0.15);
                    if b.left < b.ok {
                        let agrees = l < s * (1.0 + if periodic { noise } else { noise.min(0.4) });
                        let lasts = l > 0.8 * self.previous;
                        if agrees || lasts {
                            let r = b.rate();
                            return self.answer(now, before, periodic, since, l, r);
                        }
                    }
                    self.previous = if b.left < b.ok { l } else { f64::INFINITY };
                    let drained = self.target > 1.0;
                    self.target = (self.target / 2.0).max(1.0);
                    self.enter(Mode::Ask { before, periodic, since, drained: !drained }, now, 0.0);
                }
                if let Mode::Ask { since: t, .. } = &mut self.mode { *t = since; }
                (Some(self.target), "asking")
            }
            Mode::Hold => {
                if vanish { self.slack = (self.slack * 0.5).max(0.2); return self.ask(now, self.best, false, true); }
                let b = self.batch.clone();
                if b.elapsed >= s && b.ok >= 8.0 && b.refused > 0 && b.mean() < 1.2 * s && self.target < 0.7 * (self.best * s + self.hung) {
                    self.target *= 1.25;
                    self.verified = self.verified.max(self.target);
                    self.enter(Mode::Hold, now, s);
                } else if b.elapsed >= 2.0 * s && b.ok >= self.enough() {
                    if b.refused > 0 {
                        let r = b.rate();
                        let queue = (r * (b.mean() - s)).max(0.0);
                        let k = (self.target - queue).max(0.0);
                        let m = self.margin(r * s);
                        let by = if queue < 0.25 * m { m.max(self.target / 4.0) } else { m - queue };
                        let to = (self.target + 0.5 * by).max(self.target / 2.0);
                        if to < 0.5 * self.verified { return self.ask(now, r, true, false); }
                        if self.asked.is_none_or(|t| secs(now - t) > 5.0f64.max(15.0 * self.ask_took)) {
                            let answer = self.ask(now, r, true, false);
                            self.target = self.target.max(0.8 * k);
                            return (Some(self.target), answer.1);
                        }
                        let up = to > self.target;
                        self.target = to;
                        self.enter(Mode::Hold, now, if up { s } else { 0.0 });
                    } else { self.enter(Mode::Hold, now, 0.0); }
                }
                (Some(self.target), "hold")
            }
        }
    }

    fn begin(&mut self, w: &Window<'_>, x: f64) -> (Option<f64>, &'static str) {
        let Some(first) = self.start.first else { return (Some(w.limit as f64 * self.ratio.value), "learning") };
        let t = secs(w.now.saturating_duration_since(first));
        let n = w.in_flight as f64;
        let st = &mut self.start;
        if st.latencies.len() >= 4 {
            let mut sorted = st.latencies.clone(); sorted.sort_by(f64::total_cmp);
            let p90 = sorted[(sorted.len() - 1) * 9 / 10];
            let flat = st.n > 0.0 && n > 2.0 * st.n && x < 1.3 * st.x && w.completed >= 8;
            if w.completed >= 8 && (st.n == 0.0 || n > 2.0 * st.n) { st.n = n; st.x = x; }
            if t >= 1.6 * p90 || flat {
                let s = sorted.iter().sum::<f64>() / sorted.len() as f64;
                self.service = Some(s);
                self.rate = x.max(sorted.len() as f64 / t);
                self.peak = self.rate; self.best = self.rate;
                self.slack = 1.0; self.cv2 = 1.0; self.patience = 1.0;
                self.start.latencies = vec![];
                let cap = self.cap(s);
                if n > cap { self.enter(Mode::Guard, w.now, 0.0); self.target = cap; return (Some(cap), "guard"); }
            }
        }
        (Some(w.limit as f64 * self.ratio.value), "learning")
    }

    fn ask(&mut self, now: Instant, before: f64, periodic: bool, vanish: bool) -> (Option<f64>, &'static str) {
        let k = before * self.service.unwrap_or(0.0) + self.hung;
        self.target = (k * if vanish { 0.5 } else { 0.8 }).max(1.0);
        if self.asked.is_none() && !vanish { self.target = self.target.max(self.level / 4.0); }
        self.previous = f64::INFINITY;
        self.vanished = vanish;
        self.enter(Mode::Ask { before, periodic, since: 0.0, drained: false }, now, 0.0);
        (Some(self.target), "asking")
    }

    fn answer(&mut self, now: Instant, before: f64, periodic: bool, since: f64, l: f64, r: f64) -> (Option<f64>, &'static str) {
        let s = self.service.unwrap_or(l);
        let b = self.batch.clone();
        let noise = 2.0 / b.ok.sqrt();
        let agrees = periodic && (l / s - 1.0).abs() < noise.max(0.15);
        self.cv2 += 0.3 * (b.cv2() - self.cv2);
        let s_new = if agrees { s + 0.3 * (l - s) } else { l };
        self.service = Some(s_new);
        if l < s * (1.0 - noise.max(0.1)) && self.target > 1.0 {
            // there was still a queue
            return self.ask(now, before.max(r), periodic, false);
        }
        if periodic {
            if r > before * (1.0 + noise) { self.slack = (self.slack * 0.5).max(0.2); }
            else if r < 0.95 * before { self.slack = (self.slack * 1.1).min(1.0); }
        }
        self.asked = Some(now);
        self.ask_took = since;
        let x = if self.vanished { r } else { before.max(r) };
        self.hung = x * b.left_latency / (b.ok + b.left);
        let k = x * s_new + self.hung;
        self.target = k + self.margin(k);
        self.verified = self.target;
        self.good_share = self.good_share.max(self.usual_share);
        self.enter(Mode::Hold, now, s_new);
        (Some(self.target), "answered")
    }
}
