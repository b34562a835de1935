use super::*;

#[test]
fn accepts_json_and_nothing_else() {
    let good = [
        "null",
        " true ",
        "\t\r\n[]",
        "{}",
        "[ ]",
        "{ }",
        "-0",
        "0",
        "10",
        "-1.50E+07",
        "1e5",
        "123456789012345678901234567890e999999999999",
        r#""""#,
        r#""\"\\\/\b\f\n\r\tA\ud834\udd1e\ud800""#,
        "\"\u{7f}é\u{2028}\"",
        r#"{"a":[1,{"b":null}],"a":{}}"#,
        "[[[]],[],{}]",
    ];
    for text in good {
        assert_eq!(document(text).map(str::len), Ok(text.trim().len()), "{text}");
    }
    let bad = [
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "[",
        "]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "{1:2}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1]",
        "[1}",
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "-01",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u12\"",
        "\"\u{1}\"",
        "\"a\nb\"",
        "1 1",
        "{} x",
        "'a'",
        "\u{feff}{}",
        "[1,2",
        "{\"a\":1 \"b\":2}",
        "\u{a0}1",
        "/*c*/1",
    ];
    for text in bad {
        assert!(document(text).is_err(), "{text:?}");
    }
}

#[test]
fn errors_point_at_the_byte() {
    for (text, at) in [("", 0), ("[1,]", 3), ("{\"a\":tru}", 5), ("[1", 2), ("1 x", 2), (r#""\q""#, 2)] {
        assert_eq!(document(text), Err(SyntaxError { at }), "{text}");
    }
}

#[test]
fn a_megabyte_of_brackets_is_an_ordinary_input() {
    let depth = 1 << 19;
    assert_eq!(document(&"[".repeat(1 << 20)), Err(SyntaxError { at: 1 << 20 }));
    let deep = "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(document(&deep).map(str::len), Ok(1 << 20));
    let mixed = "{\"a\":[".repeat(1000) + &"]}".repeat(1000);
    assert!(document(&mixed).is_ok());
    let crossed = "{\"a\":[".repeat(1000) + &"]}".repeat(500) + "}]";
    assert!(document(&crossed).is_err());
}

#[test]
fn members_and_elements_are_slices_of_the_text() {
    let mut seen = Vec::new();
    let text = r#" { "a" : [1, 2] ,"\u0062":"x"} "#;
    let object = members(text, |key, value| seen.push((key.unescape().unwrap(), value)));
    assert_eq!(object, Ok(true));
    assert_eq!(seen, [("a".into(), "[1, 2]"), ("b".into(), "\"x\"")]);
    assert_eq!(members("[{}]", |_, _| panic!("no member")), Ok(false));
    assert!(members("{} {}", |_, _| ()).is_err());
    assert_eq!(elements(" [ 1 , {\"a\":[]} ,null] "), Ok(Some(vec!["1", "{\"a\":[]}", "null"])));
    assert_eq!(elements("[]"), Ok(Some(vec![])));
    assert_eq!(elements("{}"), Ok(None));
    assert!(elements("[1] 2").is_err() && elements("[1,]").is_err());
}

#[test]
fn one_member_is_found_by_its_name() {
    let text = r#" {"a":1 , "b":{"c":2},"\u0063":[3],"d":4}"#;
    let found = ["a", "b", "c", "d", "e"].map(|name| member(text, name));
    assert_eq!(found, [Some("1"), Some("{\"c\":2}"), Some("[3]"), Some("4"), None]);
    for none in ["{}", "[]", "", "{\"a\"", "{\"b\":1,}", "\"a\""] {
        assert_eq!(member(none, "a"), None, "{none}");
    }
}

#[test]
fn lone_surrogates_are_seen_wherever_they_stand() {
    let lone = [
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800x\udc00""#,
        r#""\ud800\n\udc00""#,
        r#""\udc00\ud800""#,
        r#""\ud800\ud800\udc00""#,
        r#""\ud834\udd1e\udd1e""#,
        r#""\ud800A""#,
    ];
    for text in lone {
        assert!(raw_string(text).unwrap().has_lone_surrogate(), "{text}");
        assert_eq!(string(text), None);
    }
    assert_eq!(string(r#""\ud834\udd1e\uD834\uDD1E""#).as_deref(), Some("𝄞𝄞"));
    assert_eq!(string(r#""\ufffd\u0000""#).as_deref(), Some("\u{fffd}\0"));
}

#[test]
fn keys_compare_unescaped() {
    let key = raw_string(r#""p\u0061th""#).unwrap();
    assert!(key.is("path") && !key.is("p\\u0061th"));
}
