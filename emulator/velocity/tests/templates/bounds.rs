//! Templates that exceed a limit fail with an error that names it, on a small stack and in bounded time.

use std::{thread, time::Duration};

use velocity::{NESTING_MAX, TEMPLATE_BYTES_MAX};

use crate::render;

/// Stack of the threads that render templates in the emulator.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// Far more than any template takes, even on a busy machine without optimisation.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Renders on a thread of its own and returns the error.
fn fails(template: String, body: String, expected: &str) {
    let shown: String = template.chars().take(60).collect();
    let (result, arrived) = std::sync::mpsc::channel();
    let work = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || result.send(render(&template, &body)));
    drop(work.expect("a thread"));
    let rendered = arrived.recv_timeout(WAIT_MAX).unwrap_or_else(|error| panic!("{shown}: {error}"));
    match rendered {
        Err(error) => assert!(error.contains(expected), "{shown}: {error}"),
        Ok(text) => panic!("{shown}: rendered {} bytes", text.len()),
    }
}

const NESTED: &str = "nested more than 48 deep";

#[test]
fn a_template_that_is_too_large_is_refused() {
    fails("a".repeat(TEMPLATE_BYTES_MAX + 1), String::new(), "more than 307200");
    assert!(render(&"a".repeat(TEMPLATE_BYTES_MAX), "").is_ok());
}

#[test]
fn nesting_is_bounded_in_the_template() {
    let repeated = |open: &str, close: &str, count: usize| format!("{}1{}", open.repeat(count), close.repeat(count));
    for count in [NESTING_MAX + 1, 20_000] {
        fails(repeated("#if(true)", "#end", count), String::new(), NESTED);
        fails(format!("#set($x = {})", repeated("(", ")", count)), String::new(), NESTED);
        fails(format!("#set($x = {})", repeated("[", "]", count)), String::new(), NESTED);
        fails(format!("#set($x = {})", repeated("{1:", "}", count)), String::new(), NESTED);
        fails(format!("${}", repeated("a[$", "]", count)), String::new(), NESTED);
        fails(format!("${}", repeated("a.b($", ")", count)), String::new(), NESTED);
        fails(format!("$input.path('$[?{}]')", repeated("(", ")", count)), "[1]".to_owned(), NESTED);
    }
}

#[test]
fn the_deepest_nesting_fits_the_stack() {
    let depth = NESTING_MAX / 2 - 2;
    let value = format!("#set($x = {}1{})$x", "[".repeat(depth), "]".repeat(depth));
    let template = format!("{}{value}{}", "#if(1 + 1 == 2 && true)".repeat(depth), "#end".repeat(depth));
    let rendered =
        thread::Builder::new().stack_size(STACK_BYTES).spawn(move || render(&template, "")).expect("a thread");
    assert_eq!(rendered.join().expect("no panic"), Ok(format!("{}1{}", "[".repeat(depth), "]".repeat(depth))));
}

#[test]
fn long_chains_need_no_deep_stack() {
    let plain = |template: String| {
        let rendered =
            thread::Builder::new().stack_size(STACK_BYTES).spawn(move || render(&template, "")).expect("a thread");
        rendered.join().expect("no panic")
    };
    assert_eq!(plain(format!("#set($x = 0{})$x", " + 1".repeat(50_000))), Ok("50000".to_owned()));
    assert_eq!(plain(format!("#if({}false)y#{{else}}n#end", "!".repeat(100_001))), Ok("y".to_owned()));
    assert_eq!(plain(format!("${}", "a.".repeat(100_000))), Ok(".".to_owned()));
    assert_eq!(plain(format!("#if(false)#end{}", "#if(false)#elseif(false)#end".repeat(5_000))), Ok(String::new()));
}

#[test]
fn nesting_is_bounded_in_values() {
    fails("#define($x)$x#end$x".to_owned(), String::new(), NESTED);
    fails("#set($x = [])#set($ok = $x.add($x))$x".to_owned(), String::new(), NESTED);
    fails("#set($x = {})#set($x.x = $x)$x".to_owned(), String::new(), NESTED);
    fails("#set($x = [])#set($ok = $x.add($x))#if($x == [$x])#end".to_owned(), String::new(), NESTED);
    fails("#set($x = 1)#foreach($i in [1..10000])#set($x = [$x])#end$x".to_owned(), String::new(), NESTED);
    let entries = "#set($x = 1)#foreach($i in [1..9000])#set($m = {'a': $x})#set($x = $m.entrySet().get(0))#end$x";
    fails(entries.to_owned(), String::new(), NESTED);
    fails("$input.json('$')".to_owned(), format!("{}{}", "[".repeat(100), "]".repeat(100)), NESTED);
}

#[test]
fn a_message_of_full_size_can_be_escaped() {
    let body = format!("\"{}\"", "it's ".repeat(20_000));
    let escaped = render(r#"$input.path('$').replaceAll("'","\\'").replaceAll("\\'", "''")"#, &body);
    assert_eq!(escaped, Ok("it''s ".repeat(20_000)));
}

#[test]
fn work_is_bounded() {
    let many = "[1..1000]";
    fails(format!("#foreach($a in {many})#foreach($b in {many})#set($c = 1)#end#end"), String::new(), "steps");
    fails("#set($x = [1..9000000000000000000])".to_owned(), String::new(), "steps");
    fails("#foreach($i in [1..99])#set($x = [1..90000])#end".to_owned(), String::new(), "steps");
    fails(
        "#set($s = 'x')#foreach($i in [1..99])#set($s = \"$s$s\")#end".to_owned(),
        String::new(),
        "string of more than",
    );
    fails(
        "#set($s = 'xxxxxxxxxxxxxxxx')#foreach($i in [1..99])#set($s = $s.replace('x', $s))#end".to_owned(),
        String::new(),
        "memory",
    );
    fails(
        "#set($s = 'xxxxxxxx')#foreach($i in [1..99])#set($s = $s.replaceAll('.*', '$0$0$0$0$0$0$0$0'))#end".to_owned(),
        String::new(),
        "string of more than",
    );
    fails("#set($l = [1])#foreach($i in [1..99])#set($ok = $l.addAll($l))#end".to_owned(), String::new(), "steps");
    fails(
        "#set($l = ['x'])#foreach($i in [1..40])#set($l = [$l, $l])#end$l".to_owned(),
        String::new(),
        "string of more than",
    );
    fails(
        "#set($s='x')#foreach($i in [1..1000])#set($ok = $s.matches(\"(a{$i}){2}\"))#end".to_owned(),
        String::new(),
        "steps",
    );
    fails("#set($s='a')$s.matches('((a{99}){99}){99}')".to_owned(), String::new(), "invalid pattern");
    let long = "#set($s = 'aaaaaaaa')#foreach($i in [1..15])#set($s = \"$s$s\")#end";
    fails(format!("{long}$s.replaceAll('a*b|a', 'x')"), String::new(), "steps");
    fails(format!("{long}#foreach($i in [1..1000])#set($ok = $s.contains('b'))#end"), String::new(), "steps");
    fails(format!("{long}#foreach($i in [1..99])#set($ok = $s.matches('(a|b)*c'))#end"), String::new(), "steps");
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    fails(format!("$input.path('${}')", "..*".repeat(10)), deep, "steps");
}

#[test]
fn what_cannot_be_an_argument_is_refused_and_not_read_forever() {
    // Found by the fuzz target.
    for argument in ["{x}", "@x", "$l{x}", "{", "@"] {
        fails(format!("#foreZCh($x in {argument})"), String::new(), "line 1");
    }
}
