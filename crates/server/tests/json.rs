//! The JSON reader against `serde_json`, and its refusals one by one.

use plimsoll::json::{ErrorKind, JsonError, Kind, Reader, Unknown};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Reads a whole value with every pull operation there is.
fn read(reader: &mut Reader<'_>) -> Result<Value, JsonError> {
    Ok(match reader.peek()? {
        Kind::Null => {
            assert!(reader.null()?);
            Value::Null
        }
        Kind::Bool => Value::Bool(reader.boolean()?),
        Kind::Number => number(reader)?,
        Kind::String => {
            let span = reader.string()?;
            Value::String(String::from_utf8(reader.bytes(span).to_vec()).expect("strings are UTF-8"))
        }
        Kind::Array => {
            let mut items = Vec::new();
            reader.begin_array()?;
            while reader.next_item()? {
                items.push(read(reader)?);
            }
            Value::Array(items)
        }
        Kind::Object => {
            let mut map = Map::new();
            reader.begin_object()?;
            while let Some(raw) = reader.next_key()? {
                let key = reader.bytes(raw).to_vec();
                let key = serde_json::from_slice(&[b"\"", &key[..], b"\""].concat()).expect("a checked key");
                let value = read(reader)?;
                map.insert(key, value);
            }
            Value::Object(map)
        }
    })
}

fn number(reader: &mut Reader<'_>) -> Result<Value, JsonError> {
    let mark = reader.mark();
    if let Ok(whole) = reader.u32() {
        return Ok(Value::from(whole));
    }
    reader.go_to(mark);
    Ok(Value::from(reader.f64()?))
}

fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut body = bytes.to_vec();
    let mut reader = Reader::new(&mut body);
    let value = read(&mut reader)?;
    reader.end()?;
    Ok(value)
}

fn skip(bytes: &[u8]) -> Result<(), JsonError> {
    let mut body = bytes.to_vec();
    let mut reader = Reader::new(&mut body);
    reader.skip_value()?;
    reader.end()?;
    assert_eq!(body, bytes, "skipping must not touch the body");
    Ok(())
}

/// `serde_json`'s value with its numbers as `f64` where they are not small whole ones.
fn as_read(value: Value) -> Value {
    match value {
        Value::Number(n) => match n.as_u64().filter(|n| *n <= u64::from(u32::MAX)) {
            Some(n) => Value::from(n),
            None => Value::from(n.to_string().parse::<f64>().expect("a number")),
        },
        Value::Array(items) => items.into_iter().map(as_read).collect(),
        Value::Object(map) => map.into_iter().map(|(k, v)| (k, as_read(v))).collect(),
        other => other,
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u32>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("finite", |f| f.is_finite())
            .prop_map(Value::from),
        any::<String>().prop_map(Value::String),
        "[\\\\\"/\u{8}\u{c}\n\r\t\u{0}-\u{1f}é中😀]{0,12}".prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Spells every character of the JSON text's strings as `\uXXXX` escapes.
fn escape_all(json: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    let mut chars = json.chars();
    while let Some(c) = chars.next() {
        match (inside, c) {
            (_, '"') => {
                inside = !inside;
                out.push(c);
            }
            (true, '\\') => {
                out.push(c);
                let letter = chars.next().expect("an escape");
                out.push(letter);
                if letter == 'u' {
                    out.extend(chars.by_ref().take(4));
                }
            }
            (true, c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            (false, c) => out.push(c),
        }
    }
    out
}

/// Pieces that a hostile or careless sender puts side by side.
fn any_soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"{"[..],
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"\"",
        b"\\",
        b"\\u",
        b"d83d",
        b"\\ude00",
        b"00e9",
        b"null",
        b"true",
        b"fals",
        b"-",
        b"0",
        b"12",
        b".5",
        b"e+9",
        b"1e999",
        b" ",
        b"\n",
        b"a",
        b"\xff",
        b"\xc3\xa9",
        b"\xed\xa0\x80",
        b"\x01",
        b"\"k\":",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn reads_what_serde_json_writes(value in any_value(), pretty: bool, escaped: bool) {
        let mut json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        if escaped {
            json = escape_all(&json);
        }
        prop_assert_eq!(parse(json.as_bytes()).unwrap(), as_read(value));
        prop_assert_eq!(skip(json.as_bytes()), Ok(()));
    }

    #[test]
    fn accepts_what_serde_json_accepts(soup in any_soup()) {
        check_against_serde(&soup);
    }

    #[test]
    fn accepts_what_serde_json_accepts_in_a_string(soup in any_soup()) {
        check_against_serde(&[b"[\"", &soup[..], b"\"]"].concat());
    }

    #[test]
    fn broken_json_is_judged_alike(value in any_value(), at: prop::sample::Index, byte: u8) {
        let mut json = serde_json::to_vec(&value).unwrap();
        let at = at.index(json.len());
        json[at] = byte;
        check_against_serde(&json);
        check_against_serde(&json[..at]);
    }
}

fn check_against_serde(bytes: &[u8]) {
    let theirs: Result<Value, _> = serde_json::from_slice(bytes);
    let (ours, skipped) = (parse(bytes), skip(bytes));
    if let Err(error) = &ours {
        assert!(error.offset <= bytes.len());
        assert!(
            error.to_string().len() <= 200,
            "an error text stays short: {error}"
        );
    }
    // The one difference: what a number's digits mean is only asked when it is read, and f64's largest is the bound.
    let out_of_range = matches!(
        &ours,
        Err(JsonError {
            kind: ErrorKind::OutOfRange { .. },
            ..
        })
    );
    if out_of_range {
        return;
    }
    assert_eq!(theirs.is_ok(), ours.is_ok(), "{bytes:?}: {theirs:?}, {ours:?}");
    assert_eq!(skipped.is_ok(), ours.is_ok(), "{bytes:?}");
    if let (Ok(theirs), Ok(ours)) = (theirs, ours) {
        // serde_json rounds what is no whole number of 64 bits to a neighbour now and then.
        let whole = bytes.iter().all(|b| !matches!(b, b'.' | b'e' | b'E'));
        let digits_most = bytes.split(|b| !b.is_ascii_digit()).map(<[u8]>::len).max();
        if whole && digits_most < Some(20) {
            assert_eq!(as_read(theirs), ours);
        }
    }
}

fn refusal(body: &[u8]) -> String {
    parse(body).expect_err("a refusal").to_string()
}

#[test]
fn refusals_name_the_place() {
    let deep = b"[".repeat(65);
    let long_key = format!("{{\"{}\": \u{1}}}", "k".repeat(5000));
    let table: &[(&[u8], &str)] = &[
        (b"", "body: expected a value, found the end of the body (byte 0)"),
        (
            b"  ",
            "body: expected a value, found the end of the body (byte 2)",
        ),
        (
            b"{",
            "body: expected ',' or '}', found the end of the body (byte 1)",
        ),
        (b"[1,]", "[1]: expected a value, found something else (byte 3)"),
        (
            b"[1 2]",
            "[0]: expected ',' or ']', found something else (byte 3)",
        ),
        (
            b"{\"a\":[0,{\"b\":tru}]}",
            "a[1].b: expected true, found something else (byte 13)",
        ),
        (b"{\"a\" 1}", "a: expected ':', found something else (byte 5)"),
        (b"[\"\\ud800\"]", "[0]: lone surrogate in a string (byte 2)"),
        (
            b"[\"\\ud800\\u0041\"]",
            "[0]: lone surrogate in a string (byte 2)",
        ),
        (b"[\"\\udc00\"]", "[0]: lone surrogate in a string (byte 2)"),
        (b"[\"\\q\"]", "[0]: unknown escape in a string (byte 2)"),
        (b"[\"\\u00zz\"]", "[0]: unknown escape in a string (byte 2)"),
        (
            b"[\"a\nb\"]",
            "[0]: unescaped control character in a string (byte 3)",
        ),
        (b"[\"ab\xffc\"]", "[0]: string is not valid UTF-8 (byte 4)"),
        (
            b"[\"ab",
            "[0]: expected the end of a string, found the end of the body (byte 4)",
        ),
        (b"[01]", "[0]: malformed number (byte 1)"),
        (b"[1.]", "[0]: malformed number (byte 3)"),
        (
            b"[1e999]",
            "[0]: number out of range, expected a finite 64-bit float (byte 1)",
        ),
        (b"[1] x", "body: unexpected data after the value (byte 4)"),
        (
            &deep,
            "[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: nested deeper than 64 levels (byte 64)",
        ),
        (
            long_key.as_bytes(),
            "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk...: expected a value, found something else (byte 5005)",
        ),
    ];
    for (body, expected) in table {
        assert_eq!(&refusal(body), expected);
        assert_eq!(
            &skip(body).err().map_or_else(|| refusal(body), |e| e.to_string()),
            expected
        );
    }
}

#[test]
fn whole_numbers_are_exact() {
    let read = |body: &str| {
        Reader::new(&mut body.as_bytes().to_vec())
            .u32()
            .map_err(|e| e.to_string())
    };
    assert_eq!(read("4294967295"), Ok(u32::MAX));
    for body in ["4294967296", "-1", "1.0", "1e2", "-0"] {
        let expected = "body: number out of range, expected a whole number from 0 to 4294967295 (byte 0)";
        assert_eq!(read(body), Err(expected.to_owned()));
    }
}

/// Found by `broken_json_is_judged_alike`: serde_json says 5.157666885612773e19.
#[test]
fn what_exceeds_64_bits_is_rounded_to_the_nearest() {
    for number in ["51576668856127737857", "18446744073709551616", "0.1"] {
        let expected = number.parse::<f64>().unwrap();
        assert_eq!(
            parse(format!("[{number}]").as_bytes()).unwrap(),
            Value::from(vec![expected])
        );
    }
}

#[test]
fn fields_come_in_any_order_and_spelling() {
    let mut body = *br#" {"b": [1, {"x": "\n"}], "\u0061": "\u00e9", "other": {}} "#;
    let mut reader = Reader::new(&mut body);
    let [a, b, c] = reader.fields(["a", "b", "c"], Unknown::Ignore).unwrap();
    reader.end().unwrap();
    assert!(c.is_none());
    reader.go_to(a.unwrap());
    let span = reader.string().unwrap();
    assert_eq!(reader.bytes(span), "é".as_bytes());
    reader.go_to(b.unwrap());
    assert_eq!(read(&mut reader).unwrap(), serde_json::json!([1, {"x": "\n"}]));
}

#[test]
fn fields_are_refused_by_name() {
    let check = |body: &str, expected: &str| {
        let mut body = body.as_bytes().to_vec();
        let error = Reader::new(&mut body)
            .fields(["text"], Unknown::Refuse)
            .unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(r#"{"text": 1, "texts": 2}"#, "texts: unknown field (byte 20)");
    check(
        r#"{"text": 1, "te\u0078t": 2}"#,
        r"te\u0078t: field given twice (byte 24)",
    );
    check("[]", "body: expected an object, found an array (byte 0)");
}

#[test]
fn a_missing_field_is_named() {
    let mut body = *b"{}";
    let mut reader = Reader::new(&mut body);
    assert!(reader.fields(["text"], Unknown::Refuse).unwrap()[0].is_none());
    assert_eq!(reader.missing("text").to_string(), "text: missing field");
}
