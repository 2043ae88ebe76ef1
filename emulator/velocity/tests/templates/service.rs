//! The variables of the service. Pages are those of the API Gateway developer guide; "Recorded" names a test in which
//! LocalStack recorded the service.

use crate::render;

fn check(template: &str, body: &str, expected: &str) {
    assert_eq!(render(template, body).as_deref(), Ok(expected), "{template} with {body}");
}

/// Page "WebSocket API mapping template reference".
#[test]
fn the_context_is_that_of_the_request() {
    check("$context.connectionId $context.stage $context.routeKey", "", "Gto47d9-DoECGqg= prod say");
    check("{\"t\":$context.requestTimeEpoch}", "", "{\"t\":1708326702790}");
    check("$context.identity.sourceIp|$context.identity.userAgent|$context.status", "", "203.0.113.7||");
    check("$context.authorizer.principalId $context.authorizer.key", "", "user value");
    // Values of an authorizer are texts.
    check(
        "$context.authorizer.numKey $context.authorizer.numKey.length() $context.authorizer.boolKey.equals('true')",
        "",
        "1 1 true",
    );
    check(
        "#foreach($k in $context.authorizer.keySet())$k #end",
        "",
        "principalId key numKey boolKey integrationLatency ",
    );
}

/// Page "WebSocket API mapping template reference".
#[test]
fn stage_variables_are_found_by_name_in_three_forms() {
    check(
        "$stageVariables.url $stageVariables['url'] ${stageVariables['url']}",
        "",
        "https://example.com https://example.com https://example.com",
    );
    check("|$stageVariables.none|#set($n = 'size')$stageVariables.get($n)", "", "||3");
}

/// Page "WebSocket API mapping template reference": `$input.body`, `$input.json(x)` and `$input.path(x)`.
#[test]
fn the_body_is_read_as_text_json_and_values() {
    let pets = concat!(
        r#"{"pets": [{"id": 1, "type": "dog", "price": 249.99}, {"id": 2, "type": "cat", "price": 124.99}, "#,
        r#"{"id": 3, "type": "fish", "price": 0.99}]}"#
    );
    check("$input.body", pets, pets);
    check("$input.json('$.pets[1]')", pets, r#"{"id":2,"type":"cat","price":124.99}"#);
    check("$input.path('$.pets').count() $input.path('$.pets').size()", pets, "3 3");
    check(
        "#foreach($pet in $input.path('$.pets'))$pet.type $pet.price#if($foreach.hasNext), #end#end",
        pets,
        "dog 249.99, cat 124.99, fish 0.99",
    );
    check("$input.json('$.pets[0].type') $input.path('$.pets[0].type')", pets, r#""dog" dog"#);
}

/// Recorded: `test_input_path_template_formatting`.
#[test]
fn values_of_the_body_are_written_as_recorded() {
    let of = "#set($result = $input.path(\"$.json\"))$result";
    check(of, r#"{"json": {"foo": "bar"}}"#, "{foo=bar}");
    check(of, r#"{"json": [{"foo": "bar"}]}"#, r#"[{"foo":"bar"}]"#);
    check(of, r#"{"json": {"foo": [{"nested": "bar"}]}}"#, r#"{foo=[{"nested":"bar"}]}"#);
    check(
        of,
        r#"{"json": {"bigger": "dict", "to": "test", "with": "separators"}}"#,
        "{bigger=dict, to=test, with=separators}",
    );
    check(&format!("{of}.nested"), r#"{"json": {"nested": [{"foo": "bar"}]}}"#, r#"[{"foo":"bar"}]"#);
    check(&format!("{of}[0]"), r#"{"json": [[{"foo": "bar"}]]}"#, r#"[{"foo":"bar"}]"#);
    check(&format!("{of}.toString()"), r#"{"json": {"list": [{"foo": "bar"}]}}"#, r#"{list=[{"foo":"bar"}]}"#);
}

/// Recorded: `test_input_path_template_formatting` and `test_input_body_formatting`.
#[test]
fn what_is_not_there_is_nothing_and_equals_the_empty_text() {
    let template = concat!(
        r##"#set($result = $input.path("$.x.list")){"body": $result, "nested": $result.nested, "##,
        r##""isNull": #if( $result == $null )"true"#else"false"#end, "##,
        r##""isEmptyString": #if( $result == "" )"true"#else"false"#end}"##
    );
    let nothing = r#"{"body": , "nested": , "isNull": "true", "isEmptyString": "true"}"#;
    check(template, "", nothing);
    check(template, r#"{"x": {"list": null}}"#, nothing);
    check(
        template,
        r#"{"x": {"list": []}}"#,
        r#"{"body": [], "nested": , "isNull": "false", "isEmptyString": "false"}"#,
    );
    check("Body=$input.body&Access=$util.urlEncode($input.body.testAccess)", "", "Body={}&Access=");
    check("#set($result = $input.body.testAccess)$result", r#"{"some": "value"}"#, "");
    check(
        "EncodedBody=$util.urlEncode($input.body)",
        r#"{"some": "value"}"#,
        "EncodedBody=%7B%22some%22%3A+%22value%22%7D",
    );
    check("$input.json('$.none')|$input.json('$.null')", r#"{"null": null}"#, "\"\"|null");
}

#[test]
fn a_body_that_is_not_json_is_one_string() {
    check(
        "$input.body|$input.path('$')|$input.json('$')|$input.path('$.a')",
        "some raw data",
        "some raw data|some raw data|\"some raw data\"|",
    );
}

#[test]
fn what_a_template_changes_in_the_body_is_seen_later() {
    check(
        "#set($b = $input.path('$'))#set($b.url = \"https://example.com/$b.id\")$input.json('$')",
        r#"{"id":7}"#,
        r#"{"id":7,"url":"https://example.com/7"}"#,
    );
}

/// Page "API Gateway mapping template and access logging variable reference": `$input.params()`.
#[test]
fn parameters_are_found_by_place_and_by_name() {
    check(
        "$input.params('token') $input.params('X-Client')|$input.params('none')|$input.params().header.token",
        "",
        "t c||h",
    );
    let all = concat!(
        "#set($all = $input.params())\n{#foreach($type in $all.keySet())\n#set($params = $all.get($type))\n",
        "\"$type\":{#foreach($name in $params.keySet())\"$name\":\"$util.escapeJavaScript($params.get($name))\"",
        "#if($foreach.hasNext),#end\n#end\n}#if($foreach.hasNext),#end\n#end\n}"
    );
    check(all, "", r#"{"path":{},"querystring":{"token":"t"},"header":{"X-Client":"c","token":"h"}}"#);
}

/// Page "WebSocket API mapping template reference": `$util`.
#[test]
fn util_escapes_encodes_and_parses() {
    let nested = r#"{"errorMessage":"{\"key1\":\"var1\",\"key2\":{\"arr\":[1,2,3]}}"}"#;
    let template = "#set ($errorMessageObj = \
        $util.parseJson($input.path('$.errorMessage')))\n{\n   \"errorMessageObjKey2ArrVal\" : \
        $errorMessageObj.key2.arr[0]\n}\n";
    check(template, nested, "{\n   \"errorMessageObjKey2ArrVal\" : 1\n}\n");
    check(
        "$util.escapeJavaScript($input.path('$'))",
        r#""it's \"so\"\\ / \n\u0001 \u00e9\u20ac""#,
        r#"it\'s \"so\"\\ \/ \n\u0001 \u00E9\u20AC"#,
    );
    check(r#"$util.escapeJavaScript("it's").replaceAll("\\'","'")"#, "", "it's");
    check(
        "$util.urlEncode('x=a+b c/é*-_.~') $util.urlDecode('x=a+b%20c%C3%A9')",
        "",
        "x%3Da%2Bb+c%2F%C3%A9*-_.%7E x=a b cé",
    );
    check(
        "$util.base64Encode('Hello') $util.base64Decode('SGVsbG8=') $util.base64Decode('SGVsbG8')",
        "",
        "SGVsbG8= Hello Hello",
    );
    check("$util.base64Encode({'a': 1})|$util.urlEncode($none)|$util.none('x')", "", "e2E9MX0=||");
    let failed = render("$util.parseJson('{')", "").expect_err("no JSON");
    assert!(failed.contains("$util.parseJson: invalid JSON: EOF while parsing an object at line 1"), "{failed}");
    assert!(render("$util.base64Decode('?')", "").expect_err("no base64").contains("invalid base64"));
}

/// Page "Photos example": its input mapping template, in short.
#[test]
fn the_photos_example_is_mapped() {
    let body = concat!(
        r#"{"photos":{"page":1,"pages":"1234","photo":[{"id":"12345678901","farm":1,"title":"Sample photo 1"},"#,
        r#"{"id":"23456789012","farm":2,"title":"Sample photo 2"}]}}"#
    );
    let template = "#set($inputRoot = $input.path('$'))\n{\n  \"photos\": {\n    \"page\": \
        $inputRoot.photos.page,\n    \"pages\": \"$inputRoot.photos.pages\",\n    \"photo\": [\n#foreach($elem in \
        $inputRoot.photos.photo)\n      {\n        \"id\": \"$elem.id\",\n        \"farm\": \
        $elem.farm,\n        \"title\": \"$elem.title\"\n      }#if($foreach.hasNext),#end\n\n#end\n    ]\n  }\n}\n";
    let expected = "{\n  \"photos\": {\n    \"page\": 1,\n    \"pages\": \"1234\",\n    \"photo\": [\n      \
        {\n        \"id\": \"12345678901\",\n        \"farm\": 1,\n        \"title\": \"Sample photo 1\"\n      \
        },\n      {\n        \"id\": \"23456789012\",\n        \"farm\": 2,\n        \"title\": \"Sample photo \
        2\"\n      }\n    ]\n  }\n}\n";
    check(template, body, expected);
}

#[test]
fn paths_lead_where_jayway_s_library_leads() {
    let body = r#"{"a":{"b.c":[{"n":1,"t":"x"},{"n":2},{"n":3,"t":"y"}],"d":{"n":4}},"e":[1,2,3,4,5]}"#;
    let cases = [
        ("$", body.replace(' ', "")),
        ("a.d.n", "4".to_owned()),
        ("$.a['b.c'][0].n", "1".to_owned()),
        ("$.a['b.c'][-1]", r#"{"n":3,"t":"y"}"#.to_owned()),
        ("$.a['b.c'][*].n", "[1,2,3]".to_owned()),
        ("$.a.*.n", "[4]".to_owned()),
        ("$..n", "[1,2,3,4]".to_owned()),
        ("$.e[1:3]", "[2,3]".to_owned()),
        ("$.e[-2:]", "[4,5]".to_owned()),
        ("$.e[:2]", "[1,2]".to_owned()),
        ("$.e[::2]", "[1,3,5]".to_owned()),
        ("$.e[0,4,9]", "[1,5]".to_owned()),
        ("$.a['b.c'][?(@.t)].n", "[1,3]".to_owned()),
        ("$.a['b.c'][?(@.n > 1 && @.t == 'y')].n", "[3]".to_owned()),
        ("$.a['b.c'][?(!@.t || (@.n <= 1))].n", "[1,2]".to_owned()),
        ("$.e[?(@ >= 4)]", "[4,5]".to_owned()),
        ("$.a['b.c'][?(@.t != 'x')].n", "[2,3]".to_owned()),
        ("$.a['d','none']", r#"[{"n":4}]"#.to_owned()),
        ("$.none[0]", "\"\"".to_owned()),
        ("$.none[*]", "[]".to_owned()),
    ];
    for (path, expected) in cases {
        check(&format!("$input.json(\"{path}\")"), body, &expected);
    }
    for bad in ["$[", "$.a[?(@.n", "$.a[?(1)]", "$.e.length()", "$.a..", "$ x", "$['a", "$[?(@.a == )]", "$.e[1,]"] {
        let failed = render(&format!("$input.path(\"{bad}\")"), body).expect_err(bad);
        assert!(failed.contains("invalid JSONPath"), "{failed}");
    }
}

#[test]
fn a_block_that_is_defined_once_writes_maps_of_the_service() {
    let template = "#define( $loop ){#foreach($k in \
        $map.keySet())\"$k\":\"$map.get($k)\"#if($foreach.hasNext),#end#end}#end\n#set($map = \
        $context.identity)$loop#set($map = $stageVariables)$loop";
    check(template, "", r#"{"sourceIp":"203.0.113.7"}{"size":"3","url":"https://example.com"}"#);
}

#[test]
fn methods_of_texts_lists_maps_and_numbers_answer_as_in_java() {
    let cases = [
        ("'Größe'", "length()", "5"),
        ("'a,b,,c,,'", "split(',')", "[a, b, , c]"),
        ("'a,b,,c,,'", "split(',', -1).size()", "6"),
        ("'a1b22c'", "replaceAll('\\d+', '<$0>')", "a<1>b<22>c"),
        ("'a1b22c'", "replaceFirst('(\\w)(\\d)', '$2$1')", "1ab22c"),
        ("'abc'", "matches('[a-c]+')", "true"),
        ("'abcabc'", "indexOf('c', 3)", "5"),
        ("'abc'", "indexOf('')", "0"),
        ("'b'", "compareTo('a')", "1"),
        ("['b','a']", "indexOf('a')", "1"),
        ("[1,2,3]", "subList(1,3)", "[2, 3]"),
        ("[1,[2]]", "contains([2])", "true"),
        ("[1,2]", "containsAll([2,1])", "true"),
        ("{'a':1}", "getOrDefault('b', 2)", "2"),
        ("{'a':1}", "entrySet()", "[a=1]"),
        ("0", "parseInt('42')", "42"),
        ("0", "max(3, 4)", "4"),
        ("0.5", "parseDouble('1e3')", "1000.0"),
        ("'x'", "none()", ""),
    ];
    for (owner, call, expected) in cases {
        check(&format!("#set($x = {owner})$x.{call}"), "", expected);
    }
}
