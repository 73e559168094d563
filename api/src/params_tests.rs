use super::*;

const APP: &str = "0198c0de-0000-7000-8000-000000000001";

/// The error code that a range question with this query string gets, or the range.
#[track_caller]
fn check_range(query: &str, expected: Result<(&str, &str), ErrorCode>) {
    let found = Params::parse(Some(query)).and_then(|params| RangeParams::from(&params));
    let found = found
        .map(|params| (params.range.start.to_string(), params.range.end.to_string()))
        .map_err(|refusal| refusal.code);
    let expected = expected.map(|(start, end)| (start.to_owned(), end.to_owned()));
    assert_eq!(found, expected, "{query}");
}

#[test]
fn ranges_are_inclusive_and_bounded() {
    let range = |start: &str, end: &str| format!("app_id={APP}&start_date={start}&end_date={end}");
    let check = |start, end, expected| check_range(&range(start, end), expected);
    check("2026-01-31", "2026-01-31", Ok(("2026-01-31", "2026-01-31")));
    check("2025-01-01", "2026-02-04", Ok(("2025-01-01", "2026-02-04")));
    check("2025-01-01", "2026-02-05", Err(ErrorCode::InvalidParams));
    check("2026-01-02", "2026-01-01", Err(ErrorCode::InvalidParams));
    check("0000-01-01", "0000-01-02", Ok(("0000-01-01", "0000-01-02")));
    check("9999-12-31", "9999-12-31", Ok(("9999-12-31", "9999-12-31")));
}

#[test]
fn dates_have_one_form() {
    for date in [
        "2026-02-29",
        "2026-13-01",
        "2026-00-01",
        "2026-01-00",
        "2026-1-1",
        "26-01-01",
        "2026/01/01",
        "2026-01-01T00:00:00Z",
        "tomorrow",
        "+026-01-01",
        "%2B026-01-01",
        "-026-01-01",
        "2026-01-0é",
        "２０２６-01-01",
        "2026-01-01%00",
        "2026-01-01'",
        "12026-01-01",
    ] {
        let start = format!("app_id={APP}&start_date={date}&end_date=2026-03-01");
        check_range(&start, Err(ErrorCode::InvalidDate));
        let end = format!("app_id={APP}&start_date=2026-03-01&end_date={date}");
        check_range(&end, Err(ErrorCode::InvalidDate));
    }
    let query = format!("app_id={APP}&start_date=2024-02-29&end_date=2024-02-29");
    check_range(&query, Ok(("2024-02-29", "2024-02-29")));
}

#[test]
fn a_missing_parameter_is_named() {
    let error = |query: &str| {
        let params = Params::parse(Some(query)).unwrap();
        RangeParams::from(&params).map_err(|refusal| refusal.error.into_owned()).unwrap_err()
    };
    assert_eq!(error(""), "app_id is missing");
    assert_eq!(error(&format!("app_id={APP}&end_date=x")), "start_date is missing");
    assert_eq!(error(&format!("app_id={APP}&start_date=x&end_date=")), "end_date is missing");
}

#[test]
fn an_app_id_is_a_hyphenated_uuid() {
    let good = |app: &str| {
        Params::parse(Some(&format!("app_id={app}"))).and_then(|params| {
            TimelineParams::from(&params, "u").map(|params| params.app_id.to_string())
        })
    };
    assert_eq!(good(APP).unwrap(), APP);
    assert_eq!(good(&APP.to_uppercase()).unwrap(), APP);
    for app in [
        "00000000-0000-0000-0000-000000000000",
        "0198c0de000070008000000000000001",
        "%7B0198c0de-0000-7000-8000-000000000001%7D",
        "x",
        "0198c0de-0000-7000-8000-00000000000g",
        "urn:uuid:0198c0de-0000-7000-8000-000000000001",
        "0198c0de00007-000-8000-000000000001-",
    ] {
        assert_eq!(good(app).unwrap_err().code, ErrorCode::InvalidParams, "{app}");
    }
}

#[test]
fn limits_are_whole_numbers_from_1_to_1000() {
    let check = |limit: &str, expected: Option<u32>| {
        let params = Params::parse(Some(&format!("app_id={APP}&limit={limit}"))).unwrap();
        let found = TimelineParams::from(&params, "u").ok().map(|params| params.limit);
        assert_eq!(found, expected, "{limit}");
    };
    check("1", Some(1));
    check("1000", Some(1000));
    check("", Some(100));
    for limit in ["0", "1001", "-1", "%2B5", "1.5", "1e2", "4294967297", "ten", "5%20", "%D9%A1"] {
        check(limit, None);
    }
}

#[test]
fn user_ids_are_decoded_and_bounded() {
    let check = |raw: &str, expected: Option<&str>| {
        let params = Params::parse(Some(&format!("app_id={APP}"))).unwrap();
        let found = TimelineParams::from(&params, raw).ok().map(|params| params.user_id);
        assert_eq!(found.as_deref(), expected, "{raw}");
    };
    check("a%2Fb+c", Some("a/b+c"));
    check(&"é".repeat(255), Some(&"é".repeat(255)));
    check(&"é".repeat(256), None);
    check("%ff", None);
}

#[test]
fn query_strings_are_read_strictly() {
    let code = |query: &str| Params::parse(Some(query)).map_err(|refusal| refusal.code).err();
    assert_eq!(code("a=%zz"), Some(ErrorCode::InvalidParams));
    assert_eq!(code("a=1&a=1"), Some(ErrorCode::InvalidParams));
    assert_eq!(code("a=1&%61=1"), Some(ErrorCode::InvalidParams));
    assert_eq!(code("&&a=1&b&"), None);
    let many: String = (0..33).map(|index| format!("p{index}=1&")).collect();
    assert_eq!(code(&many), Some(ErrorCode::InvalidParams));
}

#[test]
fn bounds_are_utc_midnights_within_the_days_that_exist() {
    let check = |start: &str, end: &str, days: usize, expected: (i64, i64)| {
        let query = format!("app_id={APP}&start_date={start}&end_date={end}");
        let range = RangeParams::from(&Params::parse(Some(&query)).unwrap()).unwrap().range;
        assert_eq!(range.bounds_ms(), expected, "{query}");
        assert_eq!(range.days().count(), days, "{query}");
        assert_eq!(range.day_count(), days as i64, "{query}");
    };
    check("1970-01-01", "1970-01-02", 2, (0, 2 * DAY_MS));
    check("2026-01-31", "2026-01-31", 1, (1_769_817_600_000, 1_769_904_000_000));
    check("1969-12-30", "1970-01-01", 3, (0, DAY_MS));
    check("1066-10-14", "1066-10-14", 1, (0, 0));
    check("9999-12-31", "9999-12-31", 1, (65_536 * DAY_MS, 65_536 * DAY_MS));
}
