//! The order of the queue.

use loadshed::{Budget, LoadShed};

use super::{Call, Now, Server, ms, pass, three_wait};

#[tokio::test(start_paused = true)]
async fn the_oldest_is_admitted_first() {
    let (_, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let mut held = server.served("/");
    let mut waiting: Vec<_> = (0..3).map(|_| server.waiting("/")).collect();
    for next in 0..3 {
        drop(held);
        held = waiting[next].served();
        assert!(waiting[next + 1..].iter_mut().all(Call::waits));
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_is_admitted_first_once_the_queue_is_standing() {
    let (_, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let mut held = server.served("/");
    let mut oldest = server.waiting("/");
    pass(50).await;
    let mut waiting = vec![server.waiting("/")];
    pass(50).await;
    oldest.refused();
    pass(1).await;
    waiting.push(server.waiting("/"));
    waiting.push(server.waiting("/"));
    for next in (0..3).rev() {
        drop(held);
        held = waiting[next].served();
        assert!(waiting[..next].iter_mut().all(Call::waits));
    }
}

fn by_class(limit: usize) -> (Budget, LoadShed) {
    let budget = Budget::fixed(limit);
    let shed = LoadShed::ratio(0.4).budget(&budget).wait(3, ms(100));
    let shed = shed.classify(|head| head.uri().path()[1..].parse().unwrap());
    (budget, shed)
}

const LOW: &str = "/SHEDDABLE";
const MIDDLE: &str = "/CRITICAL";
const HIGH: &str = "/CRITICAL_PLUS";

#[tokio::test(start_paused = true)]
async fn a_higher_class_is_admitted_first_however_late_it_arrives() {
    // The caps of the three classes: 4, 8 and 10 of 10.
    let (budget, shed) = by_class(10);
    let mut server = Server::new(shed);
    let mut held: Vec<_> = (0..10).map(|_| server.served(HIGH)).collect();
    let mut low = server.waiting(LOW);
    let mut middle = server.waiting(MIDDLE);
    let mut high = server.waiting(HIGH);
    held.pop();
    held.push(high.served());
    held.truncate(8);
    assert!(middle.waits(), "only the high class has free capacity");
    held.pop();
    held.push(middle.served());
    held.truncate(4);
    assert!(low.waits());
    held.pop();
    let _low = low.served();
    assert_eq!(budget.in_flight(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_the_queue_full_replaces_the_lowest_class_if_its_own_is_higher() {
    let (budget, shed) = by_class(10);
    let mut server = Server::new(shed);
    let _held: Vec<_> = (0..10).map(|_| server.served(HIGH)).collect();
    let mut waiting = [
        server.waiting(LOW),
        server.waiting(MIDDLE),
        server.waiting(LOW),
    ];
    server.call(LOW).refused();
    let mut middle = server.waiting(MIDDLE);
    let [first_low, _, second_low] = &mut waiting;
    assert!(second_low.0.is_woken());
    // The newest, as it has waited least.
    second_low.refused();
    assert!(first_low.waits());
    let mut high = server.waiting(HIGH);
    first_low.refused();
    server.call(LOW).refused();
    assert!(middle.waits() && high.waits());
    assert_eq!(
        (budget.snapshot().waiting, budget.snapshot().refused),
        (3, 4)
    );
}

#[tokio::test(start_paused = true)]
async fn in_a_full_queue_that_is_standing_the_oldest_of_the_lowest_class_is_replaced() {
    let (_, shed) = by_class(10);
    let mut server = Server::new(shed);
    let _held: Vec<_> = (0..10).map(|_| server.served(HIGH)).collect();
    let _first = server.waiting(LOW);
    pass(60).await;
    let mut older = server.waiting(LOW);
    pass(41).await;
    drop(_first);
    let mut newer = [server.waiting(LOW), server.waiting(LOW)];
    let _high = server.waiting(HIGH);
    older.refused();
    assert!(newer.iter_mut().all(Call::waits));
}

#[tokio::test(start_paused = true)]
async fn no_request_overtakes_an_expensive_waiter_unless_its_class_is_higher() {
    let budget = Budget::fixed(10);
    let shed = LoadShed::ratio(0.4).budget(&budget).wait(5, ms(100));
    let shed = shed
        .classify(|head| head.headers()["class"].to_str().unwrap().parse().unwrap())
        .cost(|head| head.uri().path()[1..].parse().unwrap());
    let mut server = Server::new(shed);
    let mut send = |class: &str, units: &str| {
        let request = http::Request::get(format!("/{units}")).header("class", class);
        server.send(request.body(http_body_util::Empty::new()).unwrap())
    };
    let held = [
        send("CRITICAL", "5").served(),
        send("CRITICAL", "2").served(),
    ];
    // 7 of 8 units are in flight.
    let mut expensive = send("CRITICAL", "5");
    assert!(expensive.waits());
    let mut cheap = send("CRITICAL", "1");
    let mut low = send("SHEDDABLE", "1");
    assert!(cheap.waits() && low.waits());
    let _high = send("CRITICAL_PLUS", "1").served();
    drop(held);
    let expensive = expensive.served();
    let _cheap = cheap.served();
    assert!(low.waits());
    drop(expensive);
    low.served();
}

#[tokio::test(start_paused = true)]
async fn a_completion_admits_as_many_waiters_as_fit() {
    let budget = Budget::fixed(10);
    let shed = LoadShed::ratio(1.0).budget(&budget).wait(9, ms(100));
    let mut server = Server::new(shed.cost(|head| head.uri().path()[1..].parse().unwrap()));
    let held = server.served("/10");
    let mut waiting: Vec<_> = ["/3", "/3", "/3", "/3"]
        .map(|path| server.waiting(path))
        .into();
    drop(held);
    let mut served = Vec::new();
    for call in &mut waiting[..3] {
        served.push(call.served());
    }
    assert!(waiting[3].waits());
    assert_eq!(budget.in_flight(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_costs_more_than_the_budget_waits_until_it_is_alone_and_delays_others_for_the_longest_wait_at_most()
 {
    let budget = Budget::fixed(10);
    let shed = LoadShed::ratio(1.0).budget(&budget).wait(9, ms(100));
    let mut server = Server::new(shed.cost(|head| head.uri().path()[1..].parse().unwrap()));
    let held = server.served("/1");
    let mut huge = server.waiting("/1000");
    pass(50).await;
    let mut small = server.waiting("/1");
    pass(50).await;
    huge.refused();
    let small = small.served();
    let mut huge = server.waiting("/1000");
    drop((held, small));
    drop(huge.served());
    assert_eq!(budget.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_raised_limit_admits_as_many_waiters_as_fit() {
    let (budget, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let _held = server.served("/");
    let mut waiting: Vec<_> = (0..3).map(|_| server.waiting("/")).collect();
    budget.set_limit(3).unwrap();
    let _served = [waiting[0].served(), waiting[1].served()];
    assert!(waiting[2].waits());
    budget.set_limit(1).unwrap();
    assert!(matches!(waiting[2].now(), Now::Waits));
    assert_eq!(budget.snapshot().peak_in_flight, 3);
}
