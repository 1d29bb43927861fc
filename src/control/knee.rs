use std::time::Duration;

use tokio::time::Instant;

use super::{Outcome, Window};

#[derive(Clone, Debug, Default)]
pub(super) struct Law {
    mode: Mode,
    first: Option<Instant>,
    since: Option<Instant>,
    /// S, seconds: how long a success takes without a queue.
    service: Option<f64>,
    /// X, successes a second, lately.
    rate: f64,
    peak: f64,
    best: f64,
    /// In flight that never come back: usual.
    hung: f64,
    ok_share: f64,
    usual_share: f64,
    early: Vec<f64>,
    early_n: f64,
    early_x: f64,
    batch: Batch,
    suspect_since: Option<Instant>,
    refused_since: Option<Instant>,
    last_refused: Option<Instant>,
    asked: Option<Instant>,
    held: f64,
    cv2: f64,
    slack: f64,
    previous: f64,
    verified: f64,
    saturated: f64,
    ratio: f64,
    capped_at: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Mode {
    #[default]
    Open,
    Guard,
    /// Throughput before.
    Question { before: f64, from_hold: bool },
    Hold,
    /// Nobody stays until the answer: wait for what is left behind to be over.
    Drain,
}

#[derive(Clone, Debug, Default)]
struct Batch {
    since: Option<Instant>,
    elapsed: f64,
    completed: f64,
    good: f64,
    ok: f64,
    ok_latency: f64,
    ok_square: f64,
    cancelled: f64,
    cancelled_latency: f64,
    in_flight: f64,
    windows: f64,
    refused: usize,
}

fn secs(d: Duration) -> f64 { d.as_secs_f64() }

impl Batch {
    fn rate(&self) -> f64 {
        if self.elapsed > 0.0 { self.good / self.elapsed } else { 0.0 }
    }
    fn n(&self) -> f64 { if self.windows > 0.0 { self.in_flight / self.windows } else { 0.0 } }
    fn latency(&self) -> f64 { if self.ok > 0.0 { self.ok_latency / self.ok } else { 0.0 } }
    fn hung(&self) -> f64 {
        let all = self.ok + self.cancelled;
        if all == 0.0 || self.elapsed == 0.0 { return 0.0 }
        self.completed / all * self.cancelled_latency / self.elapsed
    }
}

const BETA: f64 = 3.0;


impl Law {
    fn patience(s: f64) -> f64 { (2.0 * s).max(0.7 - s) }

    fn margin(&self, k: f64) -> f64 { (self.slack * BETA * (k * (1.0 + self.cv2) / 2.0).sqrt()).max(1.0) }

    fn enough(&self) -> f64 { 16.0 * (1.0 + self.cv2) }

    fn learn_cv(&mut self, b: &Batch) {
        if b.ok >= 16.0 {
            let mean = b.latency();
            let cv2 = (b.ok_square / b.ok / (mean * mean) - 1.0).clamp(0.0, 15.0);
            self.cv2 += 0.3 * (cv2 - self.cv2);
        }
    }

    fn enter(&mut self, mode: Mode, now: Instant, settle: f64) {
        self.mode = mode;
        self.batch = Batch { since: Some(now + Duration::from_secs_f64(settle)), ..Batch::default() };
    }

    pub(super) fn update(&mut self, w: &Window<'_>) -> (Option<f64>, &'static str) {
        let before = self.mode;
        let b0 = self.batch.clone();
        let r = self.update2(w);
        static ON: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        static T0: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        if *ON.get_or_init(|| std::env::var("DBG").is_ok()) && (std::mem::discriminant(&before) != std::mem::discriminant(&self.mode) || self.batch.since != b0.since && before != Mode::Open && before != Mode::Hold || std::env::var("DBG").is_ok_and(|x| x == "2")) {
            let t0 = *T0.get_or_init(|| w.now);
            let b = if self.batch.since != b0.since { &b0 } else { &self.batch };
            eprintln!("{:8.3} {before:?} -> {:?} {} n {} lim {} -> {:?} S {:?} X {:.1} peak {:.1} hung {:.1} held {:.1} b[ok {} can {} el {:.3} X {:.1} n {:.1} W {:.4} hung {:.1} ref {}] ref {}", secs(w.now - t0), self.mode, r.1, w.in_flight, w.limit, r.0.map(|x| x.round()), self.service, self.rate, self.peak, self.hung, self.held, b.ok, b.cancelled, b.elapsed, b.rate(), b.n(), b.latency(), b.hung(), b.refused, w.refused);
        }
        r
    }

    pub(super) fn update2(&mut self, w: &Window<'_>) -> (Option<f64>, &'static str) {
        let now = w.now;
        let elapsed = secs(w.elapsed);
        let n = w.in_flight as f64;
        if w.refused > 0 { self.last_refused = Some(now); if self.refused_since.is_none() { self.refused_since = Some(now) } }
        let (mut ok, mut okl, mut can) = (0.0, 0.0, 0.0);
        let bsince = self.batch.since;
        for s in w.samples {
            self.first.get_or_insert(s.admitted_at);
            let l = secs(s.latency);
            let mine = bsince.is_none_or(|since| s.admitted_at >= since);
            match s.outcome {
                Outcome::Success => { ok += 1.0; okl += l; if mine { self.batch.ok += 1.0; self.batch.ok_latency += l; self.batch.ok_square += l * l; } }
                Outcome::Cancelled | Outcome::Overload => { can += 1.0; if mine { self.batch.cancelled += 1.0; self.batch.cancelled_latency += l } }
                _ => {}
            }
            if self.service.is_none() && s.outcome == Outcome::Success { self.early.push(l); }
        }
        // rates
        let seen: f64 = ok + can;
        if self.first.is_some() && self.ok_share == 0.0 && self.early.len() == w.samples.len() { self.ok_share = 1.0; }
        let gs = 1.0 - (-seen / 32.0).exp();
        if seen > 0.0 { self.ok_share += gs * (ok / seen - self.ok_share); }
        let share = self.ok_share;
        let x = if elapsed > 0.0 { w.completed as f64 * share / elapsed } else { 0.0 };
        let s_guess = self.service.unwrap_or(0.05);
        let tau = s_guess.max(16.0 / self.rate.max(1e-9)).clamp(0.05, 1.0);
        let g = 1.0 - (-elapsed / tau).exp();
        self.rate += g * (x - self.rate);
        if bsince.is_none_or(|since| now >= since) {
            let b = &mut self.batch;
            b.elapsed += elapsed; b.completed += w.completed as f64; b.good += w.completed as f64 * share; b.in_flight += n; b.windows += 1.0; b.refused += w.refused;
        }
        // first S
        let Some(s) = self.service else {
            if let Some(first) = self.first {
                let t = secs(now.saturating_duration_since(first));
                if self.early.len() >= 4 {
                    let mut sorted = self.early.clone(); sorted.sort_by(f64::total_cmp);
                    let p90 = sorted[(sorted.len() - 1) * 9 / 10];
                    // flat: n doubled, X did not
                    let (q, xq) = (self.early_n, self.early_x);
                    let flat = q > 0.0 && n > 2.0 * q && x < 1.3 * xq && w.completed >= 8;
                    if (q == 0.0 && w.completed >= 8) || (n > 2.0 * q && !flat) { self.early_n = n; self.early_x = x; }
                    if t >= 1.6 * p90 || flat {
                        self.service = Some(sorted.iter().sum::<f64>() / sorted.len() as f64);
                        self.rate = self.early.len() as f64 / t;
                        self.peak = self.rate.max(x);
                        self.usual_share = self.ok_share;
                        self.early = vec![];
                        self.slack = 1.0;
                        self.cv2 = 1.0;
                        let s = self.service.unwrap_or(0.0);
                        let cap = self.peak * (s + Self::patience(s));
                        self.best = self.peak;
                        self.ratio = 0.85;
                        if n > cap {
                            self.refused_since = None;
                            self.enter(Mode::Guard, now, 0.0);
                            return (Some(cap / self.ratio), "guard");
                        }
                    }
                }
            }
            return (Some(w.limit as f64), "learning");
        };
        self.peak = self.peak.max(self.rate);
        if self.mode == Mode::Open { self.best = self.peak; } else { self.best = self.best.max(self.peak); }
        let busy = n - self.hung > self.peak * s;
        let pat = Self::patience(s);
        if busy && self.rate < self.peak {
            let g = 1.0 - (-elapsed / (s + pat)).exp();
            self.peak += g * (self.rate - self.peak);
        }
        if w.refused > 0 {
            let r = w.samples.iter().map(|s| s.in_flight as f64 / s.limit as f64).fold(0.0, f64::max);
            let _ = r;
        }
        self.ratio = 0.85;
        let ratio = self.ratio;
        if self.mode == Mode::Open {
            self.usual_share += (1.0 - (-elapsed / 10.0).exp()) * (self.ok_share - self.usual_share);
        } else if self.mode != Mode::Drain && self.ok_share < 0.3 * self.usual_share && self.rate < 0.3 * self.best {
            self.held = (self.best * s / 8.0).max(1.0);
            self.previous = f64::INFINITY;
            self.enter(Mode::Drain, now, 0.0);
            return (Some(self.held / ratio), "drain");
        }
        match self.mode {
            Mode::Open => {
                // baseline follows
                if ok >= 1.0 {
                    let wl = okl / ok;
                    let weight = if wl < s { (ok / 32.0).min(0.5) } else { elapsed / 30.0 };
                    let s = s + weight.min(1.0) * (wl - s);
                    self.service = Some(s);
                    if wl <= 2.0 * s && elapsed > 0.0 {
                        let h = if self.batch.elapsed > 0.5 { Some(self.batch.hung()) } else { None };
                        if let Some(h) = h { let b = self.batch.clone(); self.learn_cv(&b); self.hung += 0.3 * (h - self.hung); self.batch = Batch { since: Some(now), ..Batch::default() }; }
                    }
                }
                let cap = self.peak * (s + pat) + self.hung;
                if n > cap {
                    let since = *self.suspect_since.get_or_insert(now);
                    if secs(now - since) >= 1.5 * s {
                        self.suspect_since = None;
                        self.refused_since = None;
                        self.enter(Mode::Guard, now, 0.0);
                        self.capped_at = cap;
                        return (Some(cap / ratio), "guard");
                    }
                } else { self.suspect_since = None; }
                (None, "open")
            }
            Mode::Guard => {
                if self.calm(now, s) { self.enter(Mode::Open, now, 0.0); return (None, "calm"); }
                let standing = self.refused_since.map_or(0.0, |t| secs(now - t));
                let falling = self.rate < 0.75 * self.best && secs(now - self.batch.since.unwrap_or(now)) > 2.0 * s;
                if standing >= 1.0f64.max(2.0 * s) || falling {
                    let before = self.rate;
                    return self.ask(now, n, before, false);
                }
                let cap = self.peak * (s + pat) + self.hung;
                (Some(cap / ratio), "guard")
            }
            Mode::Question { before, from_hold } => {
                let b = self.batch.clone();
                let target = self.held;
                // wait for the drain
                if b.ok < 1.0 && n > target + 1.0 && b.windows > 0.0 {
                    self.batch.elapsed = 0.0; self.batch.good = 0.0; self.batch.completed = 0.0; self.batch.in_flight = 0.0; self.batch.windows = 0.0;
                    if self.calm(now, s) { self.enter(Mode::Open, now, 0.0); return (None, "calm"); }
                    return (Some(target / ratio), "asking");
                }
                let wl = b.latency().max(if b.good > 0.0 { (b.n() - b.hung()) / b.rate() } else { 0.0 });
                if b.ok >= self.enough() && b.elapsed >= 1.5 * wl {
                    self.learn_cv(&b);
                    let r = b.rate();
                    let wl = ((b.n() - b.hung()) / r).max(wl);
                    if self.calm(now, s) { self.enter(Mode::Open, now, 0.0); return (None, "calm"); }
                    let noise = 2.0 / b.ok.sqrt();
                    let yielded = r < before * (1.0 - noise.max(0.1));
                    let fell = wl < s * (1.0 - noise.clamp(0.1, 0.3));
                    let agrees = from_hold && !fell && wl < 1.3 * s;
                    let s_new = if agrees { s + 0.3 * (wl - s) } else { wl };
                    self.service = Some(s_new);
                    let deeper = (0.8 * (before * s_new + b.hung())).max(target / 2.0) < 0.95 * target;
                    if target > 1.0 && deeper && (!yielded || fell) {
                        return self.ask(now, target, before.max(r), from_hold);
                    }
                    if from_hold {
                        if r > before * (1.0 + noise) { self.slack = (self.slack * 0.7).max(0.2); }
                        else if r < 0.95 * before { self.slack = (self.slack * 1.1).min(1.0); }
                    }
                    self.asked = Some(now);
                    let k = before * s_new + b.hung();
                    self.saturated = before;
                    self.held = k + self.margin(k);
                    self.verified = self.held;
                    self.enter(Mode::Hold, now, s_new);
                    return (Some(self.held / ratio), "answered");
                }
                if self.calm(now, s) { self.enter(Mode::Open, now, 0.0); return (None, "calm"); }
                (Some(target / ratio), "asking")
            }
            Mode::Drain => {
                if self.calm(now, s) { self.enter(Mode::Open, now, 0.0); return (None, "calm"); }
                let b = self.batch.clone();
                if b.ok >= 8.0 && b.ok > b.cancelled {
                    let wl = b.latency();
                    let settled = wl < 2.0 * s || wl > 0.8 * self.previous;
                    self.previous = wl;
                    if settled {
                        self.previous = 0.0;
                        self.service = Some(if wl < 2.0 * s { s.max(wl) } else { wl });
                        let k = self.best * s.max(wl);
                        self.held = k + self.margin(k);
                        self.verified = self.held;
                        self.ok_share = self.usual_share;
                        self.asked = Some(now);
                        self.enter(Mode::Hold, now, s);
                        return (Some(self.held / ratio), "drained");
                    }
                    self.enter(Mode::Drain, now, 0.0);
                } else if b.ok + b.cancelled >= 8.0 {
                    self.enter(Mode::Drain, now, 0.0);
                }
                (Some(self.held / ratio), "drain")
            }
            Mode::Hold => {
                if self.calm(now, s) { self.enter(Mode::Open, now, 0.0); return (None, "calm"); }
                let b = self.batch.clone();
                if b.elapsed >= 2.0 * s && b.good >= self.enough() {
                    if b.refused > 0 {
                        let r = b.rate();
                        let k = r * s + b.hung().min(self.hung.max(b.hung() * if b.latency() < 3.0 * s && b.ok > 0.0 { 1.0 } else { 0.0 }));
                        let target = k + self.margin(k);
                        let target = (self.held + 0.5 * (target - self.held)).min(self.held * 2.0 + 4.0);
                        if target < 0.5 * self.verified {
                            let before = r;
                            return self.ask(now, self.held, before, true);
                        }
                        let due = self.asked.is_none_or(|t| secs(now - t) > 5.0f64.max(20.0 * s));
                        if due {
                            let before = r;
                            return self.ask(now, k / 0.8, before, true);
                        }
                        let up = target > self.held;
                        self.held = target;
                        self.enter(Mode::Hold, now, if up { s } else { 0.0 });
                        return (Some(self.held / ratio), "hold");
                    }
                    self.enter(Mode::Hold, now, 0.0);
                }
                (Some(self.held / ratio), "hold")
            }
        }
    }

    fn calm(&mut self, now: Instant, s: f64) -> bool {
        let calm = self.last_refused.is_none_or(|t| secs(now - t) > 1.0f64.max(2.0 * s));
        if calm { self.refused_since = None; }
        calm
    }

    fn ask(&mut self, now: Instant, n: f64, before: f64, from_hold: bool) -> (Option<f64>, &'static str) {
        let s = self.service.unwrap_or(0.0);
        let k = before * s + self.hung;
        let target = (0.8 * k).max(n / 2.0).max(1.0);
        self.held = target;
        self.enter(Mode::Question { before, from_hold }, now, 0.0);
        (Some(target / self.ratio), "asking")
    }
}
