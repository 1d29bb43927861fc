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

/// Of few segments, so that patterns overlap.
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

fn asked() -> impl Strategy<Value = String> {
    let segment =
        proptest::sample::select(vec!["a", "ab", "b", "abc", "a{", "a}b", "{a}", "{x}", ""]);
    proptest::collection::vec(segment, 0..6).prop_map(|segments| format!("/{}", segments.join("/")))
}

type Given = Vec<(Meaning, Option<&'static str>, String)>;

fn given() -> impl Strategy<Value = Given> {
    let method = proptest::sample::select(METHODS.to_vec());
    proptest::collection::vec((meaning(), method, path()), 1..12)
}

/// Those that were taken, and the table of them.
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

/// How closely each place of the pattern fits, if it matches: 0 for a literal byte, 1 for a parameter, 2 for the rest.
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

/// One pattern after the other, kind by kind.
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
            // The empty one goes before all others.
            let by_template = (Some(&**pattern) == template).then(Vec::new);
            let fit = fit(pattern, path).or(by_template);
            fit.map(|fit| (fit, how, *meaning))
        });
        // A route may be opted in and at a ratio: both are the same then, so which one comes first is all the same.
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
    fn the_table_says_what_going_through_all_patterns_says(
        given in given(),
        only in any::<bool>(),
        method in proptest::sample::select(vec!["GET", "HEAD", "POST", "PUT"]),
        paths in proptest::collection::vec(asked(), 1..8),
    ) {
        let (taken, routes) = table(given, only);
        for path in paths {
            let told = routes.find(method, &path).threshold;
            let by_hand = by_hand(&taken, only, method, &path, None);
            prop_assert_eq!(told, by_hand, "{} {} of {:?}", method, path, taken);
        }
    }

    #[cfg(feature = "axum")]
    #[test]
    fn a_template_fits_closest_where_its_pattern_does_not_fit_the_path(
        given in given(),
        only in any::<bool>(),
        method in proptest::sample::select(vec!["GET", "HEAD", "POST", "PUT"]),
        path in asked(),
        other in path(),
    ) {
        let (taken, routes) = table(given, only);
        for template in taken.iter().map(|it| &it.2).chain([&other]) {
            let told = routes.find_by_template(method, &path, template).threshold;
            let by_hand = by_hand(&taken, only, method, &path, Some(template));
            prop_assert_eq!(told, by_hand, "{} {} as {} of {:?}", method, path, template, taken);
        }
    }

    /// The tree beside the router that axum has.
    #[test]
    fn the_tree_finds_what_axums_router_finds(
        patterns in proptest::collection::vec(path(), 1..12),
        paths in proptest::collection::vec(asked(), 1..8),
    ) {
        let mut router = matchit::Router::new();
        let mut tree: Tree<Option<String>> = Tree::default();
        for pattern in patterns {
            if router.insert(&pattern, pattern.clone()).is_ok() {
                *tree.at(&pattern) = Some(pattern.clone());
            }
        }
        for path in paths {
            let mut first = None;
            tree.visit(path.as_bytes(), &mut |found| first = first.or(found.as_ref()));
            let theirs = router.at(&path).ok().map(|found| found.value);
            prop_assert_eq!(first, theirs, "{}", path);
        }
    }

    #[test]
    fn no_text_makes_it_panic(
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
fn what_is_no_pattern_is_told_what_one_is() {
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
        let text = told(&[(Meaning::Only, route)]);
        let expected = format!("invalid route {route:?}: must be {allowed}");
        assert_eq!(text, expected);
    }
}

#[test]
fn what_cannot_stand_side_by_side_is_told_with_both_named() {
    let at = |ratio| Meaning::At(Threshold::ratio(ratio));
    let text = told(&[
        (Meaning::Only, "/b"),
        (Meaning::Only, "/a/{x}"),
        (at(0.5), "/a/{*rest}"),
    ]);
    let expected =
        r#"invalid route "/a/{*rest}": must be one that does not conflict with "/a/{x}""#;
    assert_eq!(text, expected);
    let text = told(&[
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
        let text = told(&[(one, "POST /a"), (other, "POST /a")]);
        let [one, other] = texts;
        let expected = format!(
            "invalid route \"POST /a\", {other}: must be given one meaning: this route is {one}"
        );
        assert_eq!(text, expected);
    }
}

#[test]
fn the_same_route_may_be_named_again_and_opted_in_at_a_ratio() {
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
fn a_lookup_allocates_nothing_where_that_of_axums_router_does() {
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
        // Once it does no longer, it could find the routes, too.
        assert_eq!(router.count_total > 0, theirs, "{path}");
    }
}

fn told(routes: &[(Meaning, &str)]) -> String {
    let mut table = Routes::default();
    let (last, first) = routes.split_last().unwrap();
    for (meaning, route) in first {
        table.add(*meaning, route).unwrap();
    }
    table.add(last.0, last.1).unwrap_err().to_string()
}
