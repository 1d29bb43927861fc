//! Tests of the comparison, as a target of their own: a bench has no test harness.

mod csv;
mod pairs;
mod ratios;

use std::error::Error;

use self::{
    pairs::{Pairs, Verdict},
    ratios::{Ratio, all},
};

/// Returns the files of a run on a machine that is slower by this factor.
fn run(slower: f64) -> impl Fn(&str) -> Result<String, Box<dyn Error>> {
    move |file| {
        let text = match file {
            "admit.csv" => format!(
                "table,row,service,threads,ns_median\n\
                 Admit,\"bare + raw atomics\",reused,1,{}\n\
                 Admit,\"bare + raw atomics\",reused,2,{}\n\
                 Admit,\"bare + raw atomics\",cloned,1,999\n\
                 Admit,\"little, 50 ms\",reused,1,{}\n\
                 Admit,\"little, 50 ms\",reused,2,{}\n",
                20.0 * slower,
                60.0 * slower,
                50.0 * slower,
                150.0 * slower
            ),
            "scale.csv" => format!(
                "section,row,size,figure\n\
                 routes,\"bare\",1,{}\nroutes,\"bare\",10,0\nroutes,\"bare\",100,{}\n\
                 memory,\"bare\",1,1\n",
                10.0 * slower,
                15.0 * slower
            ),
            "overload.csv" => format!(
                "scenario,variant,column,capacity_per_s,goodput_per_s,lateness_p99_ms\n\
                 steady,\"little, 50 ms\",2,{},{},5.00\n\
                 steady,\"little, 50 ms\",20,{},{},7.00\n\
                 step,\"little, 50 ms\",during,100,2,1.00\n",
                700.0 / slower,
                630.0 / slower,
                700.0 / slower,
                350.0 / slower
            ),
            "overload-saturated.csv" => "row,responses_over_bare,server_cpu_over_bare\n\
                 \"bare\",1,1\n\"ours\",0.97,1.02\n"
                .into(),
            _ => return Err("no such file".into()),
        };
        Ok(text)
    }
}

/// Returns whether two values of one ratio count as equal.
fn are_same(first: f64, second: f64) -> bool {
    let run = |value| Ratio {
        table: "overload, steady".into(),
        row: "ours".into(),
        value,
        late: false,
    };
    Pairs::new(vec![run(first)], vec![run(second)]).are_same()
}

#[test]
fn each_ratio_of_a_run_is_found() {
    let ratios = all(run(1.0)).unwrap();
    let ratios = ratios
        .iter()
        .map(|ratio| (&*ratio.table, &*ratio.row, ratio.value, ratio.late));
    let expected = [
        ("admit: 2 threads ÷ 1", "bare + raw atomics", 3.0, false),
        ("admit: ÷ (bare + raw)", "little, 50 ms", 2.5, false),
        ("admit: 2 threads ÷ 1", "little, 50 ms", 3.0, false),
        ("scale, routes: last ÷ first", "bare, 1 → 100", 1.5, false),
        (
            "overload, steady: goodput ÷ capacity",
            "little, 50 ms, 2 ×",
            0.9,
            false,
        ),
        (
            "overload, steady: goodput ÷ capacity",
            "little, 50 ms, 20 ×",
            0.5,
            true,
        ),
        (
            "overload, step: goodput ÷ capacity",
            "little, 50 ms, during",
            0.02,
            false,
        ),
        (
            "overload, saturated: responses/s ÷ bare",
            "ours",
            0.97,
            false,
        ),
        (
            "overload, saturated: server's µs ÷ bare",
            "ours",
            1.02,
            false,
        ),
    ];
    assert_eq!(ratios.collect::<Vec<_>>(), expected);
}

#[test]
fn a_slower_machine_has_the_same_ratios() {
    let pairs = Pairs::new(all(run(1.0)).unwrap(), all(run(3.0)).unwrap());
    assert!(pairs.are_same(), "{:?}", pairs.with(Verdict::Other));
    let expected = [
        ["admit: 2 threads ÷ 1", "2", "2", "0"],
        ["admit: ÷ (bare + raw)", "1", "1", "0"],
        ["scale, routes: last ÷ first", "1", "1", "0"],
        ["overload, steady: goodput ÷ capacity", "1", "1", "1"],
        ["overload, step: goodput ÷ capacity", "1", "1", "0"],
        ["overload, saturated: responses/s ÷ bare", "1", "1", "0"],
        ["overload, saturated: server's µs ÷ bare", "1", "1", "0"],
        ["**all**", "8", "8", "1"],
    ];
    assert_eq!(pairs.counts(), expected);
}

#[test]
fn a_ratio_that_differs_by_more_than_a_tenth_is_listed() {
    assert!(are_same(1.0, 1.09) && are_same(1.0, 0.91));
    assert!(!are_same(1.0, 1.11) && !are_same(1.0, 0.89));

    let mut second = all(run(1.0)).unwrap();
    second[4].value = 0.45;
    let pairs = Pairs::new(all(run(1.0)).unwrap(), second);
    let row = "overload, steady: goodput ÷ capacity: little, 50 ms, 2 ×";
    let others = pairs.with(Verdict::Other);
    assert_eq!(others, [[row, "0.900", "0.450", "0.50"]]);
    let line = "\"little, 50 ms, 2 ×\",0.9000,0.4500,other\n";
    assert!(pairs.csv().contains(line), "{}", pairs.csv());
}

#[test]
fn a_ratio_of_late_callers_has_no_verdict() {
    let (first, mut second) = (all(run(1.0)).unwrap(), all(run(1.0)).unwrap());
    second[5].value = 0.4;
    second[5].late = false;
    for (first, second) in [(first.clone(), second.clone()), (second, first)] {
        let pairs = Pairs::new(first, second);
        assert!(pairs.are_same(), "{:?}", pairs.with(Verdict::Other));
        assert_eq!(pairs.with(Verdict::Late).len(), 1);
    }
}

#[test]
fn a_ratio_over_other_sizes_is_a_different_ratio() {
    let smoke = |file: &str| Ok(run(1.0)(file)?.replace("\"bare\",100,", "\"bare\",50,"));
    let pairs = Pairs::new(all(run(1.0)).unwrap(), all(smoke).unwrap());
    let others = pairs.with(Verdict::Other);
    let table = "scale, routes: last ÷ first";
    let missing = [
        [
            format!("{table}: bare, 1 → 100"),
            "1.500".into(),
            "–".into(),
            "–".into(),
        ],
        [
            format!("{table}: bare, 1 → 50"),
            "–".into(),
            "1.500".into(),
            "–".into(),
        ],
    ];
    assert_eq!(others, missing);
}

#[test]
fn negligible_shares_of_the_capacity_count_as_equal() {
    assert!(are_same(0.0, 0.0) && are_same(0.001, 0.002) && are_same(0.0, 0.019));
    assert!(!are_same(0.0, 0.03) && !are_same(0.03, 0.0));
}

#[test]
fn a_ratio_that_only_one_run_has_is_listed() {
    let ratios = || all(run(1.0)).unwrap();
    let (less, more) = (ratios()[1..].to_vec(), ratios());
    for (first, second) in [(less.clone(), more.clone()), (more, less)] {
        let others = Pairs::new(first, second).with(Verdict::Other);
        assert_eq!(others.len(), 1, "{others:?}");
    }
}

#[test]
fn a_run_without_one_of_its_files_is_an_error() {
    let read = |file: &str| match file {
        "scale.csv" => Err("not found".into()),
        _ => run(1.0)(file),
    };
    let error = all(read).unwrap_err().to_string();
    assert_eq!(error, "scale.csv: not found");
}

#[test]
fn a_file_without_a_ratio_is_an_error() {
    let read = |file: &str| match file {
        "overload.csv" => Ok("scenario,variant\n".into()),
        _ => run(1.0)(file),
    };
    let error = all(read).unwrap_err().to_string();
    assert_eq!(error, "overload.csv: no ratio in the file");
}
