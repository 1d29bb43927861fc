use proptest::prelude::*;

use super::*;

const METHODS: [Option<&str>; 4] = [None, Some("GET"), Some("POST"), Some("HEAD")];

fn meaning() -> impl Strategy<Value = Meaning> {
    prop_oneof![
        Just(Meaning::Exempt),
        Just(Meaning::Only),
        Just(Meaning::Except),
        (1_u32..=4).prop_map(|n| Meaning::At(Threshold::ratio(f64::from(n) / 4.0))),
    ]
}

/// A pattern's segment, of few different ones, so that patterns overlap.
fn segment() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "a", "ab", "b", "{x}", "a{x}", "a{{", "a}}b", "{{a}}", "",
    ])
}

fn path() -> impl Strategy<Value = String> {
    let rest = proptest::option::weighted(0.2, Just("{*rest}"));
    (proptest::collection::vec(segment(), 1..5), rest).prop_map(|(segments, rest)| {
        let segments: Vec<_> = segments.into_iter().chain(rest).collect();
        format!("/{}", segments.join("/"))
    })
}

fn request_path() -> impl Strategy<Value = String> {
    let segment =
        proptest::sample::select(vec!["a", "ab", "b", "abc", "a{", "a}b", "{a}", "{x}", ""]);
    proptest::collection::vec(segment, 0..6).prop_map(|segments| format!("/{}", segments.join("/")))
}

type Given = Vec<(Meaning, Option<&'static str>, String)>;

fn given() -> impl Strategy<Value = Given> {
    let method = proptest::sample::select(METHODS.to_vec());
    proptest::collection::vec((meaning(), method, path()), 1..12)
}

/// Returns the patterns that the table accepts, and the table.
fn table(given: Given, only: bool) -> (Given, Routes) {
    let mut routes = Routes::default();
    if only {
        routes.only();
    }
    let taken = given.into_iter().filter(|(meaning, method, path)| {
        let mut next = routes.clone();
        let route = method.map_or_else(|| path.clone(), |method| format!("{method} {path}"));
        let added = next.add(*meaning, &route).is_ok();
        if added {
            routes = next;
        }
        added
    });
    (taken.collect(), routes)
}

/// Returns how closely each position of the pattern matches, if it does: 0 for a literal byte, 1 for a parameter, 2 for the rest.
fn fit(pattern: &str, path: &str) -> Option<Vec<u8>> {
    let Some(next) = pattern.chars().next() else {
        return path.is_empty().then(Vec::new);
    };
    let with = |fit, rest: Option<Vec<u8>>| rest.map(|rest| [vec![fit], rest].concat());
    for brace in ["{{", "}}"] {
        if let Some(pattern) = pattern.strip_prefix(brace) {
            return with(0, fit(pattern, path.strip_prefix(&brace[..1])?));
        }
    }
    if pattern.starts_with("{*") {
        return (!path.is_empty()).then(|| vec![2]);
    }
    if next == '{' {
        let pattern = pattern.split_once('}').unwrap().1;
        let (value, _) = path.split_once('/').unwrap_or((path, ""));
        return with(1, fit(pattern, &path[value.len()..])).filter(|_| !path.is_empty());
    }
    with(0, fit(&pattern[1..], path.strip_prefix(next)?))
}

/// Goes through all patterns, meaning by meaning.
fn by_hand(
    taken: &Given,
    only: bool,
    method: &str,
    path: &str,
    template: Option<&str>,
) -> Option<Threshold> {
    let matching = |kind: fn(&Meaning) -> bool| {
        let all = taken.iter().filter(|(meaning, ..)| kind(meaning));
        let all = all.filter_map(|(meaning, named, pattern)| {
            let how = match named {
                Some(named) if *named == method => 0,
                Some("GET") if method == "HEAD" => 1,
                Some(_) => return None,
                None => 2,
            };
            // The empty one is less than all others.
            let by_template = (Some(&**pattern) == template).then(Vec::new);
            let fit = fit(pattern, path).or(by_template);
            fit.map(|fit| (fit, how, *meaning))
        });
        // A route may be opted in and have a ratio. Both results are the same, so their order does not matter.
        all.min_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)))
            .map(|it| it.2)
    };
    if matching(|meaning| *meaning == Meaning::Exempt).is_some() {
        return Some(Threshold::EXEMPT);
    }
    if let Some(Meaning::At(threshold)) = matching(|meaning| matches!(meaning, Meaning::At(_))) {
        return Some(threshold);
    }
    match matching(|meaning| matches!(meaning, Meaning::Only | Meaning::Except)) {
        Some(Meaning::Except) => Some(Threshold::NEVER_SHED),
        Some(_) => None,
        None => only.then_some(Threshold::NEVER_SHED),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_table_finds_what_a_search_of_all_patterns_finds(
        given in given(),
        only in any::<bool>(),
        method in proptest::sample::select(vec!["GET", "HEAD", "POST", "PUT"]),
        paths in proptest::collection::vec(request_path(), 1..8),
    ) {
        let (taken, routes) = table(given, only);
        for path in paths {
            let found = routes.find(method, &path).threshold;
            let by_hand = by_hand(&taken, only, method, &path, None);
            prop_assert_eq!(found, by_hand, "{} {} of {:?}", method, path, taken);
        }
    }

    #[cfg(feature = "axum")]
    #[test]
    fn a_template_is_closest_if_its_pattern_does_not_match_the_path(
        given in given(),
        only in any::<bool>(),
        method in proptest::sample::select(vec!["GET", "HEAD", "POST", "PUT"]),
        path in request_path(),
        other in path(),
    ) {
        let (taken, routes) = table(given, only);
        for template in taken.iter().map(|it| &it.2).chain([&other]) {
            let found = routes.find_by_template(method, &path, template).threshold;
            let by_hand = by_hand(&taken, only, method, &path, Some(template));
            prop_assert_eq!(found, by_hand, "{} {} as {} of {:?}", method, path, template, taken);
        }
    }

    #[test]
    fn the_table_accepts_the_patterns_that_axums_router_accepts_and_finds_the_same_one(
        patterns in proptest::collection::vec(path(), 1..12),
        paths in proptest::collection::vec(request_path(), 1..8),
    ) {
        let mut router = matchit::Router::new();
        let mut routes = Routes::default();
        for (nth, pattern) in patterns.iter().enumerate() {
            let is_known = routes.labels().any(|label| label == pattern);
            // A router that has refused a pattern keeps its beginning.
            let mut next = router.clone();
            let is_accepted = next.insert(pattern, nth).is_ok();
            if is_accepted {
                router = next;
            }
            let added = routes.add(Meaning::Only, pattern);
            prop_assert_eq!(added.is_ok(), is_accepted || is_known, "{} after {:?}: {:?}", pattern, routes, added);
            if let Err(invalid) = added {
                let named = routes.labels().find(|label| invalid.to_string().ends_with(&format!("with {label:?}")));
                let named = named.expect("a conflict names the other pattern");
                let mut pair = matchit::Router::new();
                pair.insert(named, ()).unwrap();
                prop_assert!(pair.insert(pattern, ()).is_err(), "{} with {}", pattern, named);
            }
        }
        for path in paths {
            let nth = usize::from(routes.find("GET", &path).nth);
            let found = nth.checked_sub(1).and_then(|index| routes.labels().nth(index));
            let theirs = router.at(&path).ok().map(|found| &*patterns[*found.value]);
            prop_assert_eq!(found, theirs, "{}", path);
        }
    }

    #[test]
    fn no_pattern_causes_a_panic(
        routes in proptest::collection::vec("[/a{}*: Gé😀è]{0,12}|/.{0,8}", 1..8),
    ) {
        let mut table = Routes::default();
        for route in routes {
            let added = table.add(Meaning::Only, &route);
            prop_assert!(added.is_ok() || !added.unwrap_err().to_string().is_empty());
        }
    }
}

#[test]
fn a_malformed_pattern_is_an_error_that_says_what_is_allowed() {
    let path = "a path that begins with /, alone or after a method in capital letters";
    let braces = "{name} for a parameter, and a brace of the path itself twice";
    let many = "/{x}".repeat(26);
    for (route, allowed) in [
        ("", path),
        ("mail", path),
        ("post /mail", path),
        ("POST mail", path),
        (" /mail", path),
        ("/mail/a b", path),
        ("/:id", "{name} for a parameter"),
        ("/mail/*path", "{*name} for the rest of the path"),
        ("/{*path}/mail", "{*name} at the end of the path alone"),
        ("/{id}.json", "one parameter for each segment, at its end"),
        ("/{}", braces),
        ("/{id", braces),
        ("/id}", braces),
        (&many, "at most 25 parameters"),
    ] {
        let text = error(&[(Meaning::Only, route)]);
        let expected = format!("invalid route {route:?}: must be {allowed}");
        assert_eq!(text, expected);
    }
}

#[test]
fn conflicting_patterns_are_an_error_that_names_both() {
    let at = |ratio| Meaning::At(Threshold::ratio(ratio));
    let text = error(&[
        (Meaning::Only, "/b"),
        (Meaning::Only, "/a/{x}"),
        (at(0.5), "/a/{*rest}"),
    ]);
    let expected =
        r#"invalid route "/a/{*rest}": must be one that does not conflict with "/a/{x}""#;
    assert_eq!(text, expected);
    let text = error(&[
        (Meaning::Only, "GET /{x}/b"),
        (Meaning::Except, "POST /{y}/b"),
    ]);
    let expected = r#"invalid route "/{y}/b": must be one that does not conflict with "/{x}/b""#;
    assert_eq!(text, expected);

    for (one, other, texts) in [
        (at(0.5), at(0.6), ["at 0.5", "at 0.6"]),
        (Meaning::Only, Meaning::Except, ["opted in", "opted out"]),
        (Meaning::Exempt, Meaning::Except, ["exempt", "opted out"]),
        (at(0.5), Meaning::Exempt, ["at 0.5", "exempt"]),
        (Meaning::Except, at(0.5), ["opted out", "at 0.5"]),
    ] {
        let text = error(&[(one, "POST /a"), (other, "POST /a")]);
        let [one, other] = texts;
        let expected = format!(
            "invalid route \"POST /a\", {other}: must be given one meaning: this route is {one}"
        );
        assert_eq!(text, expected);
    }
}

#[test]
fn a_route_may_be_given_again_and_opted_in_with_a_ratio() {
    let at = Meaning::At(Threshold::ratio(0.5));
    for order in [[Meaning::Only, at, at], [at, Meaning::Only, Meaning::Only]] {
        let mut routes = Routes::default();
        for meaning in order {
            routes.add(meaning, "/export/{*path}").unwrap();
        }
        let found = routes.find("GET", "/export/a/b");
        assert_eq!(found.threshold, Some(Threshold::ratio(0.5)), "{order:?}");
    }
}

#[test]
fn a_lookup_allocates_nothing_where_a_lookup_in_axums_router_does() {
    let patterns = ["/users/{id}", "/users/me", "/{a}/{b}/{c}/{d}/{e}"];
    let mut routes = Routes::default();
    let mut router = matchit::Router::new();
    for pattern in patterns {
        routes.add(Meaning::Only, pattern).unwrap();
        router.insert(pattern, ()).unwrap();
    }
    for (path, theirs) in [
        ("/users/me", true),
        ("/users/7", true),
        ("/v/w/x/y/z", true),
        ("/none", false),
    ] {
        let ours =
            allocation_counter::measure(|| assert_eq!(routes.find("GET", path).threshold, None));
        assert_eq!(ours.count_total, 0, "{path}");
        let router = allocation_counter::measure(|| drop(router.at(path)));
        // Once axum's router allocates nothing, reconsider the tree.
        assert_eq!(router.count_total > 0, theirs, "{path}");
    }
}

fn error(routes: &[(Meaning, &str)]) -> String {
    let mut table = Routes::default();
    let (last, first) = routes.split_last().unwrap();
    for (meaning, route) in first {
        table.add(*meaning, route).unwrap();
    }
    table.add(last.0, last.1).unwrap_err().to_string()
}

#[test]
fn a_route_takes_at_most_300_bytes() {
    let mut routes = Routes::default();
    let memory = allocation_counter::measure(|| {
        for nth in 0..1_000 {
            let route = format!("/v1/accounts/{{account}}/orders/table-{nth}/{{*rest}}");
            routes.add(Meaning::Only, &route).unwrap();
        }
    });
    let bytes = memory.bytes_current / 1_000;
    assert!(bytes <= 300, "{bytes} bytes a route");
}
