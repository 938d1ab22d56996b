use proptest::prelude::*;

use super::*;

const TYPE: &str = "multipart/form-data; boundary=X-1";

/// The verdict on a form that comes in these pieces.
fn verdict(content_type: &str, pieces: &[&[u8]]) -> Result<Option<Model>, Unclear> {
    let mut parts = Parts::new(content_type)?.expect("multipart");
    for piece in pieces {
        parts.feed(piece)?;
    }
    parts.finish()?;
    if let Some(model) = parts.model() {
        let cut = &pieces.concat()[model.span.clone()];
        assert_eq!(cut, model.value.as_bytes(), "{:?}", model.span);
    }
    Ok(parts.model().cloned())
}

/// The verdict on a form, the same in every split in two and byte by byte.
fn judged(content_type: &str, body: &[u8]) -> Result<Option<String>, String> {
    let whole = verdict(content_type, &[body]);
    for cut in 0..=body.len() {
        let halves = verdict(content_type, &[&body[..cut], &body[cut..]]);
        assert_eq!(halves, whole, "cut at {cut}");
    }
    let bytes: Vec<_> = body.chunks(1).collect();
    assert_eq!(verdict(content_type, &bytes), whole);
    let value = whole.map(|model| model.map(|model| model.value));
    value.map_err(|unclear| unclear.to_string())
}

fn told(body: &[u8]) -> Option<String> {
    judged(TYPE, body).expect("it is clear")
}

/// A part with these lines in its head.
fn part(head: &str, value: &[u8]) -> Vec<u8> {
    [b"--X-1\r\n", head.as_bytes(), b"\r\n\r\n", value, b"\r\n"].concat()
}

/// A form of fields: what follows `form-data; `, and the value.
fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let parts = fields.iter().map(|(disposition, value)| {
        let head = format!("Content-Disposition: form-data; {disposition}");
        part(&head, value)
    });
    let mut form: Vec<u8> = parts.flatten().collect();
    form.extend_from_slice(b"--X-1--\r\n");
    form
}

/// A form whose one part has this head, and the value `m`.
fn headed(head: &str) -> Vec<u8> {
    [part(head, b"m"), b"--X-1--".to_vec()].concat()
}

#[test]
fn the_model_is_told_wherever_its_part_stands() {
    let file = b"\x89PNG\r\n--X-\r\n--X\r\n\r\nname=\"model\"\r\n\r\nfake\r\n--\0\n\r".as_slice();
    let (named, model) = (
        "name=\"file\"; filename=\"a\\b.png\"\r\nContent-Type: image/png",
        ("name=\"model\"", b"gpt-image-1".as_slice()),
    );
    let (file, prompt, empty) = (
        (named, file),
        ("name=prompt", b"x".as_slice()),
        ("name=\"empty\"", b"".as_slice()),
    );
    for fields in [
        [file, empty, model, prompt],
        [model, prompt, empty, file],
        [prompt, file, empty, model],
    ] {
        assert_eq!(told(&form(&fields)).as_deref(), Some("gpt-image-1"));
    }
    assert_eq!(told(&form(&[file, empty, prompt])), None);
}

/// The words of the clients in common use: Python, C#, Ruby, curl, browsers.
#[test]
fn what_clients_write_is_clear() {
    for head in [
        "Content-Disposition: form-data; name=\"model\"",
        "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=model",
        "content-disposition:form-data;name=\"model\"",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Length: 1\r\nContent-Transfer-Encoding: binary",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Type: ",
    ] {
        assert_eq!(told(&headed(head)).as_deref(), Some("m"), "{head}");
    }
    for head in [
        "Content-Disposition: form-data; name=\"file\"; filename=\"\u{e9}; \\\"q\\\".mp3\"; filename*=utf-8''%c3%a9.mp3",
        "Content-Disposition: form-data; name=\"file\"; filename=\"model\"\r\nContent-Type: text/plain; charset=utf-16",
        "Content-Disposition: form-data; name=\"timestamp_granularities[]\"",
        "Content-Disposition: form-data; name=\"models\"",
    ] {
        assert_eq!(told(&headed(head)), None, "{head}");
    }
    for ending in ["--X-1--", "--X-1--\r\n", "--X-1--\r\n\r\n"] {
        let head = "\r\n--X-1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n";
        let form = format!("{head}{ending}");
        assert_eq!(told(form.as_bytes()).as_deref(), Some("m"));
    }
}

/// C13: whoever reads the head otherwise would take another part for the model.
#[test]
fn a_part_whose_name_two_readers_read_differently_is_unclear() {
    for (head, why) in [
        ("Content-Disposition: form-data; name=\"Model\"", "not all"),
        ("Content-Disposition: form-data; name=\" model\"", "not all"),
        (
            "Content-Disposition: form-data; name=\"mo%64el\"",
            "not all",
        ),
        (
            "Content-Disposition: form-data; name=\"model[]\"",
            "not all",
        ),
        (
            "Content-Disposition: form-data; name=model ; x=y",
            "not all",
        ),
        (
            "Content-Disposition: form-data; name=\"model\"; filename=\"m\"",
            "not all",
        ),
        (
            "Content-Disposition: form-data; name=\"model\"; filename*=utf-8''m",
            "not all",
        ),
        (
            "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64",
            "not all",
        ),
        (
            "Content-Disposition: form-data; name=\"model\"\r\nContent-Type: text/plain; charset=\"UTF-7\"",
            "not all",
        ),
        (
            "Content-Disposition: form-data; name=\"model\"\r\nContent-Type: multipart/mixed; boundary=y",
            "not all",
        ),
        (
            "Content-Disposition: form-data; name=\"mod\\el\"",
            "with a name first",
        ),
        (
            "Content-Disposition: form-data; name=\"a\\\"b\"",
            "with a name first",
        ),
        (
            "Content-Disposition: form-data; name=\"a\"model",
            "with a name first",
        ),
        (
            "Content-Disposition: form-data; name=\"model",
            "with a name first",
        ),
        (
            "Content-Disposition: form-data; name =model",
            "with a name first",
        ),
        (
            "Content-Disposition: form-data; name*=utf-8''model",
            "with a name first",
        ),
        (
            "Content-Disposition: form-data; filename=\"model\"; name=\"file\"",
            "with a name first",
        ),
        (
            "Content-Disposition: attachment; name=\"model\"",
            "with a name first",
        ),
        ("Content-Disposition: form-data", "with a name first"),
        (
            "Content-Disposition: form-data; name=\"a\"; name=\"model\"",
            "its name twice",
        ),
        (
            "Content-Disposition: form-data; name=\"a\"; NAME=model",
            "its name twice",
        ),
        (
            "Content-Disposition: form-data; name=\"a\"; name*=utf-8''model",
            "its name twice",
        ),
        (
            "Content-Disposition: form-data; name=\"a\"; name*0=mo; name*1=del",
            "its name twice",
        ),
        (
            "Content-Disposition: form-data; name=\"a\"; filename=\"; name=model\"",
            "its name twice",
        ),
        (
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"model\"",
            "header twice",
        ),
        (
            "Content-Disposition: form-data;\r\n name=\"model\"",
            "is no header",
        ),
        (
            "Content-Disposition : form-data; name=\"model\"",
            "is no header",
        ),
        ("form-data; name=\"model\"", "is no header"),
        ("Content-Type: text/plain", "no content-disposition"),
        (
            "A: b\nContent-Disposition: form-data; name=\"model\"\r\nContent-Disposition: form-data; name=\"a\"",
            "end with CRLF",
        ),
        (
            "Content-Disposition: form-data; name=\"a\"\n\nnot\n--X-2",
            "end with CRLF",
        ),
        (
            "Content-Disposition: form-data; name=\"a\"\rb: c",
            "end with CRLF",
        ),
        (
            "Content-Disposition: form-data; name=\"a\0\"",
            "end with CRLF",
        ),
    ] {
        let unclear = judged(TYPE, &headed(head)).expect_err(head);
        assert!(unclear.contains(why), "{head:?}: {unclear}");
    }
}

/// C13: as with a member of JSON that stands there twice, nobody knows which of them counts.
#[test]
fn a_second_model_is_unclear() {
    for value in [b"b".as_slice(), b"", b"a"] {
        let fields = [
            ("name=\"model\"", b"a".as_slice()),
            ("name=x", b"y"),
            ("name=model", value),
        ];
        let unclear = judged(TYPE, &form(&fields)).unwrap_err();
        assert!(unclear.contains("twice"), "{unclear}");
    }
}

#[test]
fn a_form_that_two_readers_cut_differently_is_unclear() {
    let model = "--X-1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n";
    for (body, why) in [
        // Line ends that only some take for one.
        ("--X-1\nA: b\n\nc\n--X-1--".to_owned(), "goes on"),
        (model.replace("m\r\n", "m\n--X-1\r\n"), "within a line"),
        (model.replace("m\r\n", "m\r--X-1\r\n"), "within a line"),
        (model.replace("m\r\n", "m--X-1\r\n"), "within a line"),
        (model.replace("m\r\n", "--X-1\r\n"), "within a line"),
        (
            model
                .replace("\"model\"", "\"a\"")
                .replace("m\r\n", "m\n--X-1\r\n"),
            "within a line",
        ),
        (
            model
                .replace("\"model\"", "\"a\"")
                .replace("m\r\n", "--X-1\r\n"),
            "within a line",
        ),
        // Lines that only begin with the boundary.
        (format!("{model}--X-1 \r\n"), "goes on"),
        (format!("{model}--X-12\r\n"), "goes on"),
        (format!("{model}--X-1-\r\n"), "goes on"),
        (format!("{model}--X-1\r\r\n"), "goes on"),
        // What stands outside of the parts.
        (format!("preamble\r\n{model}--X-1--"), "does not begin"),
        (format!("\n{model}--X-1--"), "does not begin"),
        (format!("\r\n\r\n{model}--X-1--"), "does not begin"),
        ("{\"model\":\"m\"}".to_owned(), "does not begin"),
        ("--other\r\n".to_owned(), "does not begin"),
        (
            format!("{model}--X-1--\r\n{model}--X-1--"),
            "behind its closing",
        ),
        (format!("{model}--X-1--epilogue"), "behind its closing"),
        // What has no end.
        (String::new(), "ends without"),
        (model.to_owned(), "ends without"),
        (format!("{model}--X-1-"), "ends without"),
        (format!("{model}--X-1\r\n"), "ends without"),
        (model.replace("\r\nm\r\n", ""), "ends without"),
        // A head that is none.
        ("--X-1\r\n\r\nx\r\n--X-1--".to_owned(), "no headers"),
    ] {
        let unclear = judged(TYPE, body.as_bytes()).expect_err(&body);
        assert!(unclear.contains(why), "{body:?}: {unclear}");
    }
    let bytes = form(&[("name=\"model\"", b"\xff")]);
    assert!(judged(TYPE, &bytes).unwrap_err().contains("not UTF-8"));
}

#[test]
fn the_span_is_that_of_the_name_without_the_white_space_around_it() {
    let body = form(&[
        ("name=\"a\"", b"m-1"),
        ("name=\"model\"", b" \r\n\tm-1\xc2\xa0 \r\n"),
    ]);
    let start = memmem::find(&body, b"\tm-1\xc2").expect("it is there") + 1;
    let expected = Model {
        value: "m-1".to_owned(),
        span: start..start + 3,
    };
    assert_eq!(told(&body).as_deref(), Some("m-1"));
    assert_eq!(verdict(TYPE, &[&body]), Ok(Some(expected)));
}

#[test]
fn an_empty_model_is_none() {
    for value in [b"".as_slice(), b" ", b"\r\n"] {
        assert_eq!(told(&form(&[("name=model", value)])), None);
    }
}

#[test]
fn a_recorded_form_without_a_model_has_none() {
    let recorded = include_bytes!(
        "../../../../tests/fixtures/recordings/openai/images-edits-multipart/request.bin"
    );
    let content_type = "multipart/form-data; boundary=-----------RubyMultipartPost-d360293eee8bc4f1b2f8ed291a1b5ccc";
    assert_eq!(verdict(content_type, &[recorded]), Ok(None));
    // The prompt's part is the model's now.
    let at = memmem::find(recorded, b"name=\"prompt\"").expect("it is there");
    let mut renamed = recorded.to_vec();
    renamed.splice(at..at + 13, *b"name=\"model\"");
    let model = verdict(content_type, &[&renamed]).unwrap().expect("named");
    assert!(model.value.contains("red"), "{model:?}");
}

#[test]
fn what_is_too_large_is_unclear_and_is_not_held() {
    let named = |length| form(&[("name=\"model\"", &vec![b'm'; length])]);
    assert_eq!(told(&named(256)), Some("m".repeat(256)));
    assert!(judged(TYPE, &named(257)).unwrap_err().contains("256 bytes"));
    let long = |length: usize| {
        let head = "A: \r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n".len();
        let padding = "p".repeat(length - head);
        headed(&format!(
            "A: {padding}\r\nContent-Disposition: form-data; name=\"model\""
        ))
    };
    let pieces = |body: &[u8]| {
        let hundreds: Vec<_> = body.chunks(100).collect();
        let told = verdict(TYPE, &hundreds);
        assert_eq!(told, verdict(TYPE, &[body]));
        told
    };
    assert_eq!(pieces(&long(MAX_HEAD)).unwrap().expect("named").value, "m");
    let unclear = pieces(&long(MAX_HEAD + 1)).unwrap_err().to_string();
    assert!(unclear.contains("8 KiB"), "{unclear}");

    let mut parts = Parts::new(TYPE).unwrap().expect("multipart");
    parts.feed(b"--X-1\r\n").unwrap();
    let fed = (0..100)
        .filter(|_| parts.feed(&[b'h'; 100]).is_ok())
        .count();
    assert_eq!(fed, MAX_HEAD / 100);
    assert!(parts.held.capacity() <= 2 * MAX_HEAD);
    assert!(parts.finish().is_err());
}

#[test]
fn a_value_that_would_break_the_form_does_not_fit() {
    for value in ["m", "", "acme/x:free", "--X-", "x -1", "\u{e9}\u{2028}\""] {
        assert!(fits(TYPE, value), "{value:?}");
    }
    for value in ["a\rb", "a\nb", "\r\n", "--X-1", "X-1", "aX-1b"] {
        assert!(!fits(TYPE, value), "{value:?}");
    }
    assert!(!fits("application/json", "m") && !fits("multipart/form-data", "m"));
}

#[test]
fn a_boundary_is_one_that_all_readers_find() {
    for other in ["application/json", "", "text/x; boundary=a", "multipart"] {
        assert!(Parts::new(other).unwrap().is_none(), "{other}");
    }
    for kind in [
        "multipart/form-data; boundary=X-1",
        "Multipart/Form-Data;charset=x;  BOUNDARY=\"X-1\" ;",
        "multipart/form-data; boundary=\"X-1\"; a=\"b; c\"",
    ] {
        let form = form(&[("name=model", b"m")]);
        assert_eq!(judged(kind, &form).unwrap().as_deref(), Some("m"), "{kind}");
    }
    let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
    assert!(Parts::new(&long[..long.len() - 1]).is_ok_and(|it| it.is_some()));
    assert!(Parts::new("multipart/form-data; boundary=\"a b=/?\"").is_ok_and(|it| it.is_some()));
    for refused in [
        &long,
        "multipart/form-data",
        "multipart/form-data, multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=a/b",
        "multipart/form-data; boundary=a,b",
        "multipart/form-data; boundary=a b",
        "multipart/form-data; boundary = a",
        "multipart/form-data; boundary=\"a",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=\"a\\b\"",
        "multipart/form-data; boundary=\"a\"b",
        "multipart/form-data; boundary=a; boundary=a",
        "multipart/form-data; boundary=a; Boundary=b",
        "multipart/form-data; boundary*=utf-8''a",
        "multipart/form-data; boundary=a; boundary*0=b",
        "multipart/form-data; x; boundary=a",
    ] {
        assert!(Parts::new(refused).is_err(), "{refused}");
    }
}

proptest! {
    #[test]
    fn any_split_tells_the_same(
        junk in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'X'), Just(b'1'), any::<u8>()], 0..60),
        blank in "[ \t\r\n]{0,3}",
        name in "[a-z\u{e9}\u{1f600} ./:-]{1,12}",
        again in any::<bool>(),
        sizes in prop::collection::vec(1usize..9, 1..20),
    ) {
        let value = format!("{blank}{name}{blank}");
        let second = if again { "name=model" } else { "name=n" };
        let body = form(&[("name=\"file\"", &junk), ("name=\"model\"", value.as_bytes()), (second, &junk)]);
        let pieces = tollgate_testing::splits::Split::Sizes(sizes).pieces(&body);
        prop_assert_eq!(verdict(TYPE, &pieces), verdict(TYPE, &[&body]));
    }

    /// Made of what a form is made of, in any order.
    #[test]
    fn any_split_of_any_nonsense_tells_the_same(
        words in prop::collection::vec(prop_oneof![
            Just("--X-1"), Just("\r\n"), Just("\n"), Just("\r"), Just("--"), Just("-"), Just("X-1"),
            Just("Content-Disposition: form-data; name=\"model\""), Just("; name=a"), Just("\r\n\r\n"), Just("m"),
            Just("--X-1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"), Just("\r\n--X-1\r\n"), Just("\r\n--X-1--"),
        ], 0..24),
        opened in any::<bool>(),
        sizes in prop::collection::vec(1usize..9, 1..20),
    ) {
        let start = if opened { "--X-1\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n" } else { "" };
        let body = format!("{start}{}", words.concat());
        let pieces = tollgate_testing::splits::Split::Sizes(sizes).pieces(body.as_bytes());
        prop_assert_eq!(verdict(TYPE, &pieces), verdict(TYPE, &[body.as_bytes()]));
    }
}
