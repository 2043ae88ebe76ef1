//! The language: each output was compared with that of Velocity 1.7, except that references to nothing render as
//! nothing.

use crate::render;

/// Beginning of every template.
const VARIABLES: &str = concat!(
    "#set($map={'k':'v','n':1,'list':[1,2,3]})#set($name='Ann')#set($list=['a','b','c'])",
    "#set($t=true)#set($f=false)#set($i=7)#set($d=2.5)#set($l=1708326702789)"
);

fn check(cases: &[(&str, &str)]) {
    for (template, expected) in cases {
        assert_eq!(render(&format!("{VARIABLES}{template}"), "").as_deref(), Ok(*expected), "{template}");
    }
}

#[test]
fn references_are_rendered_as_velocity_renders_them() {
    check(REFERENCES);
}

#[test]
fn values_are_made_and_assigned() {
    check(VALUES);
}

#[test]
fn conditions_choose_a_block_and_leave_no_empty_lines() {
    check(CONDITIONS);
}

#[test]
fn loops_visit_every_item_and_end_early() {
    check(LOOPS);
}

#[test]
fn backslashes_escape_what_would_be_rendered() {
    check(ESCAPES);
}

#[test]
fn comments_vanish_and_unparsed_text_stays() {
    check(TEXT);
}

#[test]
fn templates_that_velocity_refuses_are_refused_with_a_position() {
    for (template, expected) in REFUSED {
        assert_eq!(
            velocity::MappingTemplate::parse(template).map(drop).map_err(|error| error.to_string()),
            Err((*expected).to_owned()),
            "{template}"
        );
    }
}

#[test]
fn templates_at_which_velocity_throws_fail_with_a_position() {
    for (template, expected) in FAILING {
        let rendered = render(&format!("{VARIABLES}\n{template}"), "");
        assert_eq!(rendered, Err((*expected).to_owned()), "{template}");
    }
}

#[test]
fn positions_count_lines_and_characters() {
    let refused = |template: &str| velocity::MappingTemplate::parse(template).expect_err(template).to_string();
    assert_eq!(refused("a\r\n\u{e9}\u{e9} #if(\n1"), "line 3, column 2: ) is missing at the end of #if");
    assert_eq!(refused("\n  #set($x = \"a\n#if\")"), "line 2, column 13: ( is missing after #if");
    assert_eq!(
        render("\n$input.path('$[')", ""),
        Err("line 2, column 1: invalid JSONPath $[: a name in quotes, an index, * or ?(\u{2026}) is missing after ["
            .to_owned())
    );
}

#[test]
fn directives_that_are_left_out_are_refused() {
    for name in ["macro", "parse", "include", "evaluate", "literal"] {
        let refused = velocity::MappingTemplate::parse(&format!("a #{name}('x')")).expect_err(name).to_string();
        assert_eq!(refused, format!("line 1, column 3: #{name} is not supported"));
    }
}

/// References.
const REFERENCES: &[(&str, &str)] = &[
    ("$ $5 $$ $name$ $. $! ${ ${} $!{ ", "$ $5 $$ Ann$ $. $ ${ ${} $!{ "),
    ("$name. $name.. $name.length $name. length", "Ann. Ann..  Ann. length"),
    ("$map.get('k') $map.get('z') $!map.get('z')", "v  "),
    ("$list.add('z') $list", "true [a, b, c, z]"),
    ("$map.put('q', 2) $map.put('q', 3)", " 2"),
    ("${name.length()} ${map.k} ${list[0]} ${name}.length() $!{map.k}", "3 v a Ann.length() v"),
    ("$name.substring(1) $name.substring(0,1).toUpperCase()", "nn A"),
    ("$name.foo() $!name.foo()", " "),
    ("$name-x $name_y ${name}_y $name-", "  Ann_y "),
    ("$map.k.length() $map.list.size() $map.list[1]", "1 3 2"),
    ("$map.get(\"$map.k\") $map.get(\"k\") ", " v "),
    ("$name\n\n$name\n", "Ann\n\nAnn\n"),
    ("$name$name", "AnnAnn"),
    ("$name!", "Ann!"),
    ("$!name!", "Ann!"),
    ("$!nope!", "!"),
    ("$!!name", "$!name"),
    ("$!1", "$1"),
    ("$_a", ""),
    ("$1", "$1"),
    ("${1}", "${1}"),
    ("${ name }", "${ name }"),
    ("${name.length}", ""),
    ("${!name}", "${!name}"),
    ("$!{nope}x", "x"),
    ("$!{nope.foo}", ""),
    ("$nope.foo.bar()", ""),
    ("${nope.foo}.bar", ".bar"),
    ("$!nope.foo('a', 1).b[0].c", ""),
    ("$name.length ()", " ()"),
    ("$name .length()", "Ann .length()"),
    ("$map ['k']", "{k=v, n=1, list=[1, 2, 3]} ['k']"),
    ("$map[ 'k' ]", "v"),
    ("$map['k'].length()", "1"),
    ("$map.list[0]", "1"),
    ("$map[$map.k]", ""),
    ("$name.equals('Ann') $name.equals(\"Ann\") $name.equals($name)", "true true true"),
    ("$map.containsKey('k')", "true"),
    ("$name.concat('x').concat(\"y$name\")", "AnnxyAnn"),
    ("$list.contains($name)", "false"),
    ("$map.get({'a':1}) $list.contains([1,2])", " false"),
    ("$name.replace(\"A\", \"B\") $name.replace('A','$')", "Bnn $nn"),
    ("${map.k}.x", "v.x"),
    ("$map.k.", "v."),
    ("$map.k.1", "v.1"),
    ("$map.1", "{k=v, n=1, list=[1, 2, 3]}.1"),
    ("$map.-", "{k=v, n=1, list=[1, 2, 3]}.-"),
    ("$map.k-x", ""),
    ("$map.K", ""),
    ("$name.Length", ""),
    ("$list.0", "[a, b, c].0"),
    ("$map.k,x", "v,x"),
    ("$name)", "Ann)"),
    ("$name]", "Ann]"),
    ("$name(", "Ann("),
    ("$l $d $t $f $nul", "1708326702789 2.5 true false "),
    ("${", "${"),
    ("$!{", "$!{"),
    ("$s.substring(9)", ""),
];

/// `#set`, operators, texts, lists and maps.
const VALUES: &[(&str, &str)] = &[
    ("#set($a = 1)\nb", "b"),
    ("x #set($a = 1)\nb", "x b"),
    ("x #set($a = 1) y", "x  y"),
    ("  #set($a = 1)  \nb", "b"),
    ("  #set($a = 1)  \n  #set($b = 1)  \nb", "b"),
    ("#set($a = $nope)a=$a", "a="),
    ("#set($a = 1)#set($a = $nope)a=$a", "a=1"),
    (
        "#set($a = 1 + 2)$a #set($a = 7 / 2)$a #set($a = 7 / 0)$a #set($a = 7 % 4)$a #set($a = 7 - 10)$a \
         #set($a=2*3)$a #set($a = 7.0 / 2)$a #set($b = $d + 1)$b",
        "3333-363.53.5",
    ),
    (
        "#set($a = 'x' + 'y')$a #set($a = 'x' + 1)$a #set($b = 1 + 'x')$b #set($c = \"$name!\")$c #set($c = \
         '$name!')$c",
        "xyx11xAnn!$name!",
    ),
    (
        "#set($a = [1..3])$a #set($a = [3..1])$a #set($a = [])$a #set($a = {})$a #set($a = {'x': 1, 'y' : [1,2]})$a \
         $a.x #set($a = [1, 'b', $name])$a",
        "[1, 2, 3][3, 2, 1][]{}{x=1, y=[1, 2]} 1[1, b, Ann]",
    ),
    ("#set($a = \"a\"\"b\")$a", "a\"b"),
    ("#set($a = 'it''s')$a", "it's"),
    ("#set ( $a = 1 )$a#set($map.z = 5)$map.z $map", "15 {k=v, n=1, list=[1, 2, 3], z=5}"),
    ("#set($list[0] = 'q')$list", "[q, b, c]"),
    ("#set($x = $list.add('z'))$list", "[a, b, c, z]"),
    ("#set", "#set"),
    ("#settle", "#settle"),
    (
        "#set($x = true)$x #set($x = !$x)$x #set($x = $i > 3)$x #set($x = ($i > 3 && $f))$x #set($x = (1 + 2) * 3)$x",
        "truefalsetruefalse9",
    ),
    (
        "#set($x = 1.5)$x #set($x = 1e3)$x #set($x = 1.0)$x #set($x = 100000000000.0)$x #set($x = 1.5E10)$x #set($x= \
         0.00001)$x",
        "1.51000.01.01.0E111.5E101.0E-5",
    ),
    ("#set($h = '#')$h #set($dol = '$')${dol}x", "#$x"),
    ("#set( $inputRoot = $map )\n{\n  \"k\": \"$inputRoot.k\"\n}\n", "{\n  \"k\": \"v\"\n}\n"),
    ("#set($x = $i - 1)$x", "6"),
    ("#set($x = $i+1)$x", "8"),
    ("#set($x = 1+1)$x", "2"),
    ("#set($x = $i)$x#set($y=$x)$y", "77"),
    ("a#set($x=1)  b", "a  b"),
    ("$name  #set($x=1) b", "Ann b"),
    ("$name\n  #set($x=1)\nb", "Ann\n  b"),
    ("x\n\n  #set($x=1)\nb", "x\n\n  b"),
    ("\"#set($x=1)\"", "\"\""),
    ("#set($k = 'k')$map.get($k) $map[$k]", "v v"),
    ("#set($x = 2 + 3 * 4 - 6 / 2 % 2)$x", "13"),
    ("#set($x = 10 - 2 - 3)$x #set($y = 100 / 5 / 2)$y", "510"),
    (
        "#set($m = {'a' : 1, \"b\": $name, 'c': {'d': [1, 2]}})$m.a $m.b $m.c.d[1] $m",
        "1 Ann 2 {a=1, b=Ann, c={d=[1, 2]}}",
    ),
    ("#set($m = {})#set($m.a = 1)#set($m['b'] = 2)$m", "{a=1, b=2}"),
    ("#set($m = {'a':{}})#set($m.a.b = 2)$m", "{a={b=2}}"),
    ("#set($q = {$name: 1})$q", "{Ann=1}"),
    ("#set($q = [1..$i])$q #set($q = [$i..9])$q", "[1, 2, 3, 4, 5, 6, 7][7, 8, 9]"),
    ("#set($q = [ 1 .. 3 ])$q", "[1, 2, 3]"),
    ("#set($q = [-1..1])$q", "[-1, 0, 1]"),
    ("#set($s = \"line\nline\")$s", "line\nline"),
    ("#set($s=\"$nope $!nope ${name}\")$s", "  Ann"),
    ("#set($s=\"##x\")$s", ""),
    ("#set($s=\"#*x*#\")$s|", "|"),
    ("#set($s=\"a#set($q=1)b$q\")$s", "ab1"),
    ("#set($s=\"$map.get('k')\")$s", "v"),
    ("#set($s=\"${map.get('k')} $map['k']\")$s", "v v"),
    ("#set  ($x=1)$x", "1"),
    ("#set($x=1)\n\n\nb", "\n\nb"),
    ("#set($x=1)\t\n b", " b"),
    ("#define($x)$y#end#set($y=1)$x#set($y=2)$x", "12"),
    ("#set($x = 3000000000)$x", "3000000000"),
    ("#set($x= 007)$x", "7"),
    ("#set($x = 1.)$x", "1.0"),
    ("#set($x = .5)$x", "0.5"),
    (
        "#set($x = $d * 2)$x #set($x = 1 / 3.0)$x #set($x= 5 % 0)$x #set($x = 5.5 % 2)$x #set($x = 'a' * 2)$x #set($x \
         = $nope + 1)$x #set($x = $name - 1)$x",
        "5.00.33333333333333330.33333333333333331.51.51.51.5",
    ),
    ("#set($x = $t && $nope)$x", "false"),
    ("#set($x = $list + 'a')$x", "[a, b, c]a"),
    ("#set($x = [1] + [2])$x", ""),
    ("#set($m={'zebra':1,'apple':2,'mango':3})$m", "{zebra=1, apple=2, mango=3}"),
    ("$5  #set($x=1)b", "$5  b"),
    ("#* *#  #set($x=1)b", "b"),
    ("$x.foo  #set($x=1)b", "b"),
    ("#foo  #set($x=1)b", "#foob"),
    ("#(  #set($x=1)b", "#(  b"),
    (")  #set($x=1)b", ")  b"),
    ("$map.k.  #set($x=1)b", "v.  b"),
    ("${map.k}  #set($x=1)b", "vb"),
    ("$map.get('k')  #set($x=1)b", "vb"),
    ("$list[0]  #set($x=1)b", "ab"),
    ("#set($s=\"a$\")$s", "a$"),
    ("#set($s=\"a#\")$s", "a#"),
    ("#set($x = 'a' || $f)$x", "false"),
    ("#set($x = !'a')$x", "true"),
    ("#set($x=$list == [ 'a','b','c'])$x", "true"),
    ("#set($x= [1,2] == '[1, 2]')$x", "true"),
    ("#set($x = 1 < 2 < 3)$x|", "false|"),
    ("#set($x = $d > 2)$x", "true"),
    ("#set($x = 'b' > 'a')$x|", "false|"),
    (
        "#set($a=[1,2,3])$a.remove(0) $a $a.set(0,9) $a $a.indexOf(3) $a.subList(0,1) $a.contains(3) $a.add(0,7) $a \
         $a.addAll([5]) $a $a.isEmpty() $a.toString() $a.equals([7,9,3,5]) $a.clear() $a",
        "1 [2, 3] 2 [9, 3] 1 [9] true  [7, 9, 3] true [7, 9, 3, 5] false [7, 9, 3, 5] true  []",
    ),
    (
        "#set($m={'a':1})$m.remove('a') $m $m.put('z',1) $m.getOrDefault('q',5) $m.containsValue(1) $m.putAll({'b':2}) \
         $m $m.toString() $m.equals({'z':1,'b':2}) $m.isEmpty()",
        "1 {}  5 true  {z=1, b=2} {z=1, b=2} true false",
    ),
    (
        "#set($n=5)$n.toString() $n.intValue() $n.equals(5) $n.compareTo(3) $n.parseInt('42') $n.valueOf('3') \
         $n.doubleValue() $n.MAX_VALUE $d.intValue() $t.toString() $n.longValue() $d.parseDouble('1.5') $n.max(3,4) \
         $d.round()",
        "5 5 true 1 42 3 5.0  2 true 5 1.5 4 ",
    ),
    (
        "#set($s=',a,,b,,')$s.split(',').size() $s.split(',',2).get(1) $s.split(',',-1).size() $s.split('').size()",
        "4 a,,b,, 6 7",
    ),
    ("#set($s='a')$s.split(',').get(0)", "a"),
];

/// `#if`, `#elseif`, `#else` and the lines that they leave.
const CONDITIONS: &[(&str, &str)] = &[
    ("a\n#if($t)\nx\n#end\nb\n", "a\nx\nb\n"),
    ("a\n  #if($t)\n  x\n  #end\nb\n", "a\n    x\n  b\n"),
    ("a #if($t) x #end b", "a  x  b"),
    ("a #if($t)x#end b", "a x b"),
    ("a\n#if($f)\nx\n#else\ny\n#end\nb\n", "a\ny\nb\n"),
    ("a\n#if($f)\nx\n#elseif($t)\nz\n#else\ny\n#end\nb\n", "a\nz\nb\n"),
    ("#[[ $x #if ]]#b", " $x #if b"),
    (
        "#if($nope)y#{else}n#end #if('')y#{else}n#end #if(0)y#{else}n#end #if($list)y#{else}n#end #if(!$f)y#end #if($i \
         == 7 && $t || $f)y#end #if($i > 6)y#end #if($i == 7.0)y#end #if($i == '7')y#{else}n#end",
        "n n n y y y y y y",
    ),
    (
        "#if($name == 'Ann')y#end #if($nope == $nope2)y#{else}n#end #if($name != 'x')y#end #if($i eq 7)y#end #if(not \
         $f)y#end #if($t and $t)y#end #if($i gt 1)y#end",
        "y y y y y y y",
    ),
    ("#set($a = \"x#if($t)y#end\")$a", "xy"),
    ("#if($name.length() > 2)ok#end", "ok"),
    ("#if ( $t )\nx\n#end  \nb", "x\nb"),
    ("\t#if($t)\t\nx\n\t#end\t\nb", "\tx\n\tb"),
    ("#if($t) \n x \n #end \n b", " x \n  b"),
    ("#if($t)\n\n#end\n\nb", "\n\nb"),
    ("#iffy", "#iffy"),
    ("a\r\n#if($t)\r\nx\r\n#end\r\nb", "a\r\nx\r\nb"),
    ("#if($t)a#else b#end", "a"),
    ("#if($f)a#else b#end", " b"),
    ("#if($f)a#else\nb#end", "b"),
    ("x#if($f)a#{else}b#{end}y", "xby"),
    (
        "#set($e='')#if($e)y#{else}n#end #if(0)y#{else}n#end #set($z=0)#if($z)y#{else}n#end #if([])y#{else}n#end \
         #if({})y#{else}n#end #if([1])y#{else}n#end",
        "y ny n n n",
    ),
    ("#if($t)  #set($x=1)\n#end|", "|"),
    ("$name#if($t)x#end", "Annx"),
    ("#if($list.size() > 0 && $list.get(0) == 'a')y#end", "y"),
    ("#if(($i > 1) || ($i < 0))y#end", "y"),
    ("#if(!($i > 1))y#{else}n#end", "n"),
    ("#if($i>1)y#end", "y"),
    ("#if($i<1||$i>5)y#end", "y"),
    ("#if( $i==7&&$t )y#end", "y"),
    ("#if(7 == 7.0)y#end#if('a' < 'b')y#{else}n#end#if($name < 3)y#{else}n#end", "ynn"),
    ("#if(true)y#end#if(false)y#{else}n#end", "yn"),
    ("#if(1 < 2 && 2 < 3)y#end", "y"),
    ("#if(!$nope)y#end", "y"),
    ("#if(!!$t)y#end", "y"),
    ("#if($nope > 1)y#{else}n#end", "n"),
    ("#if(1 + 1 == 2)y#end", "y"),
    ("#if(1 == 1 == true)y#end", "y"),
    ("#if($t)#if($f)a#{else}b#end#{end}c", "bc"),
    ("#if($f)a#elseif($f)b#elseif($t)c#else d#end", "c"),
    ("#if ($t)x#end", "x"),
    ("#if\n($t)x#end", "x"),
    ("#if(\"x\")y#{else}n#end", "n"),
    ("#if('x' + 'y')y#{else}n#end", "n"),
    ("#if(1+1)y#{else}n#end", "n"),
    ("#if(('x'))y#{else}n#end", "n"),
    ("#if(!'x')y#{else}n#end", "y"),
    ("#if('x' && $t)y#{else}n#end", "n"),
];

/// `#foreach` and `#break`.
const LOOPS: &[(&str, &str)] = &[
    ("#foreach($x in $list)\n$x\n#end\n", "a\nb\nc\n"),
    ("#foreach($x in $list)$x#if($foreach.hasNext),#end#end", "a,b,c"),
    ("#foreach($x in $list)\n  $x#if($foreach.hasNext),#end\n\n#end\nend", "  a,\n  b,\n  c\nend"),
    ("#foreach($e in $map.entrySet())$e.key=$e.value,$e.getKey();#end", "k=v,k;n=1,n;list=[1, 2, 3],list;"),
    ("#foreach($e in $map.keySet())$e #end", "k n list "),
    ("#foreach($v in $map)$v #end", "v 1 [1, 2, 3] "),
    (
        "#foreach($x in $list)$velocityCount $foreach.count $foreach.index $foreach.first $foreach.last \
         $foreach.hasNext;#end $velocityCount $foreach.count $x",
        "1 1 0 true false true;2 2 1 false false true;3 3 2 false true false;   ",
    ),
    ("#foreach($x in [1..5])#if($x == 3)#break#end$x#end", "12"),
    (
        "a #foreach($x in [1..3])#foreach($y in [1..2])$foreach.parent.count-$foreach.topmost.count#end #end",
        "a 11 22 33 ",
    ),
    (
        "#set($s = 'a,b,c')#foreach($p in $s.split(','))$p;#end $s.split(',')[1] $s.split(',').size() \
         $s.replaceAll('[ab]','x') $s.replace('a','z') $s.indexOf('b') $s.contains('c') $s.matches('a.*')",
        "a;b;c; b 3 x,x,c z,b,c 2 true true",
    ),
    ("#foreach( $x in [1..3] )$x #end#set($q=[2..4])$q.size() $q.get(1)", "1 2 3 3 3"),
    ("#foreach($x in [])a#end|", "|"),
    ("#foreach($x in $nope)a#end|", "|"),
    ("#foreach($x in 'abc')a#end|", "|"),
    ("#foreach($x in {'a':1})$x#end|", "1|"),
    ("#foreach($x in $map.values())$x#end|", "v1[1, 2, 3]|"),
    ("#foreach($x in $i)$x#end|", "|"),
    ("#foreach( $x in $list )\n#set($last = $x)\n#end\n$last", "c"),
    ("#foreach($x in $list)#set($x = 'q')$x#end", "qqq"),
    ("#foreach($x in $list)$foreach.index#break x#end", "0"),
    ("a#break b", "a"),
    ("#if($t)#break#end b", ""),
    ("#foreach($x in $list)$foreach#end", "{}{}{}"),
    ("#foreach($x in $list)#foreach($y in [1..2])$velocityCount#end$velocityCount #end", "121 122 123 "),
    ("#foreach($x in $list)#foreach($y in [1..2])${foreach.parent.count}#end #end", "11 22 33 "),
    ("#set($s=\"#foreach($x in $list)$x#end\")$s", "abc"),
    ("#foreach ($x in $list)$x#end", "abc"),
    ("#foreach($x in$list)$x#end", "abc"),
    ("#foreach($x  in  $list )$x#end", "abc"),
    ("#foreach(${x} in $list)$x#end", "abc"),
    ("#foreach($!x in $list)$x#end", "abc"),
    ("#break()", ""),
    ("#foreach($e in $map)$e#end", "v1[1, 2, 3]"),
    ("#break  \nx", ""),
    ("#if($t)a#break  \nb#end", "a"),
    ("#foreach($x in [1..2])\n  #if($x==1)\n    $x  \n  #end  \n#end\n|", "      1  \n    |"),
    ("#foreach($x in $list)$x#set($y=$x)#end$y$x", "abcc"),
    ("#foreach($c in [1..3])#foreach($d in [1..2])$foreach.count#end;$foreach.count#end", "12;112;212;3"),
    ("#foreach($x in [1..3])$x#if($foreach.hasNext), #end#end", "1, 2, 3"),
    ("#foreach($x in [1..2])#if($velocityCount == 2)two#end#end", "two"),
    ("#set($x = [])#foreach($i in [1..3])#set($ok = $x.add($i))#end$x", "[1, 2, 3]"),
];

/// Backslashes.
const ESCAPES: &[(&str, &str)] = &[
    ("\\$name \\\\$name \\\\\\$name", "$name \\Ann \\$name"),
    ("\\$x \\\\$x \\\\\\$x", "\\$x \\ \\\\$x"),
    ("\\$!x \\$!name \\${name} \\${x}", "\\$!x $!name ${name} \\${x}"),
    ("\\#if(true) \\#set($a = 1) \\#foo \\# \\\\#if($t)x#end", "#if(true) #set( = 1) \\#foo \\# \\x"),
    ("#set($foo = \"$name.length() ${name}s \\$name #\")$foo", "3 Anns $name #"),
    ("\\\n", "\\\n"),
    ("\\\\\n", "\\\\\n"),
    ("\\x \\\\x", "\\x \\\\x"),
    ("\\", "\\"),
    ("a\\", "a\\"),
    ("\\\\$name.foo", "\\"),
    ("\\$map.nope", "\\$map.nope"),
    ("\\$name.length()", "$name.length()"),
    ("\\${map.k}", "${map.k}"),
    ("\\$ ", "\\$ "),
    ("\\##x", "\\"),
    ("\\#*x*#", "\\"),
    ("\\#end", "#end"),
    ("\\#else", "#else"),
    ("\\#macro", "#macro"),
    ("\\#foreach($x in $list)", "#foreach( in [a, b, c])"),
    ("\\#{if}", "#{if}"),
    ("\\#{foo}", "\\#{foo}"),
    ("\\#stop", "#stop"),
    ("#set($s = \"a\\nb\")$s", "a\\nb"),
    ("#set($s = 'a\\nb')$s", "a\\nb"),
    ("#set($s = \"\\u0041\")$s", "A"),
    ("#set($s = \"a\\b\")$s", "a\\b"),
    ("#set($s = \"\\\")$s", "\\"),
    ("#set($s = \"x\\$name\")$s", "x$name"),
    ("\\\\\\\\\\$x", "\\\\\\$x"),
    ("\\\\\\\\$x", "\\\\"),
    ("\\\\$!x", "\\"),
    ("\\\\\\$!x", "\\\\$!x"),
    ("\\\\#set($a=1)|", "\\\\|"),
    ("\\\\\\#if($t)", "\\#if(true)"),
    ("\\\\#foo", "\\\\#foo"),
    ("\\\\\\#foo", "\\\\\\#foo"),
    ("\\\\\\\\#if($t)x#end", "\\\\x"),
    ("a\\\\#if($t)x#end", "a\\x"),
    ("\\  #set($x=1)b", "\\b"),
];

/// Comments, unparsed text, `#define`, `#stop`, and text that looks like a directive.
const TEXT: &[(&str, &str)] = &[
    ("$map.k##x\ny", "v##x\ny"),
    ("$map.k ##x\ny", "v y"),
    ("${map.k}##x\ny", "vy"),
    ("$name##x\ny", "Anny"),
    ("$map.k.length()##x\ny", "1y"),
    ("$map['k']##x\ny", "vy"),
    ("$map.k#*c*#y", "vy"),
    ("## c\nb", "b"),
    ("a ## c\nb", "a b"),
    ("a\n  ## c\nb", "a\n  b"),
    ("a #* c *# b", "a  b"),
    ("#* c *#\nb", "\nb"),
    ("a\n#* c\n *#\nb", "a\n\nb"),
    ("#** doc *#\nb", "\nb"),
    ("a\n#[[\n$x\n]]#\nb", "a\n\n$x\n\nb"),
    ("# #x #{x} #foo #foo(1) #1", "# #x #{x} #foo #foo(1) #1"),
    ("a #stop b", "a "),
    ("#define($b)hello $name#end$b", "hello Ann"),
    ("#endx", "#endx"),
    ("#elsewhere", "#elsewhere"),
    ("#{if}($t)x#{end}", "x"),
    ("#{set}($a = 3)$a", "3"),
    ("#IF($t)", "#IF($t)"),
    ("#Foreach", "#Foreach"),
    ("#stop\nx", ""),
    ("a#stop()b", "a"),
    ("#[[a]]b]]#c", "a]]bc"),
    ("#*a", ""),
    ("##a", ""),
    ("a##", "a"),
    ("a\n##b\n##c\nd", "a\nd"),
    ("#***#x", "x"),
    ("#**#x", "x"),
    ("#*#x", ""),
    ("##\n", ""),
    ("###\nx", "x"),
    ("#$name", "#Ann"),
    ("#{$name}", "#{Ann}"),
    ("#(x)", "#(x)"),
    ("#1", "#1"),
    ("#-", "#-"),
    ("#!", "#!"),
    ("#@", "#@"),
    ("# if", "# if"),
    ("#_x", "#_x"),
    ("a#b", "a#b"),
    ("a#b c", "a#b c"),
    ("#define($x)a#end$x$x", "aa"),
    ("#define($x)\na\n#end\n[$x]", "[a\n]"),
    ("#stop  \nx", ""),
    ("#foo($name)", "#foo($name)"),
    ("#foo($name $x)|", "#foo($name $x)|"),
    ("#foo( a b )|", "#foo( a b )|"),
    ("#foo(1,2)", "#foo(1,2)"),
    ("#foo()\nb", "#foo()\nb"),
    ("#foo\nb", "#foo\nb"),
    ("#foo ()\nb", "#foo ()\nb"),
    ("#{foo}($name)", "#{foo}($name)"),
    ("#color(\"x\")", "#color(\"x\")"),
    ("{\"a\": \"#fff\"}", "{\"a\": \"#fff\"}"),
    ("#f (x) $name", "#f (x) Ann"),
];

/// Templates that Velocity refuses, and our errors.
const REFUSED: &[(&str, &str)] = &[
    ("${name", "line 1, column 7: } is missing at the end of the reference"),
    ("#set($a = \"say \\\"x\\\"\")$a", "line 1, column 18: ) is missing at the end of #set"),
    ("#else", "line 1, column 1: #else without an open #if or block"),
    ("#end", "line 1, column 1: #end without an open #if or block"),
    ("#if($t)", "line 1, column 1: #if has no #end"),
    ("#if()x#end", "line 1, column 5: a value is missing"),
    ("#if($t x#end", "line 1, column 8: ) is missing at the end of #if"),
    ("#set($a 1)", "line 1, column 9: = is missing in #set"),
    ("#set(a = 1)", "line 1, column 6: a $name is missing in #set"),
    ("#set($a = )", "line 1, column 11: a value is missing"),
    ("#if", "line 1, column 4: ( is missing after #if"),
    ("#if($t)x#endx", "line 1, column 1: #if has no #end"),
    (
        "#set($x = -1)$x #set($x = - 1)$x #set($x = $i -1)$x #set($x = $i-1)$x #set($x = 1-1)$x",
        "line 1, column 27: a value is missing",
    ),
    ("#set($x = $i -1)$x", "line 1, column 14: ) is missing at the end of #set"),
    ("#set($x = 1 -1)$x", "line 1, column 13: ) is missing at the end of #set"),
    ("#set($x = 5 -1)$x", "line 1, column 13: ) is missing at the end of #set"),
    ("\\$", "line 1, column 2: a template cannot end with $"),
    ("\\#", "line 1, column 2: a template cannot end with #"),
    ("$!", "line 1, column 1: a template cannot end with $"),
    ("$", "line 1, column 1: a template cannot end with $"),
    ("${name.}", "line 1, column 7: } is missing at the end of the reference"),
    ("$name.length( ) $name.substring( 1 , 2 ) $name.substring(1,\n2)", "line 1, column 15: a value is missing"),
    ("$map.get(1 + 1)", "line 1, column 12: , is missing between values, or ) after them"),
    ("#set($q = {a: 1})$q", "line 1, column 12: a value is missing"),
    ("#set($q = {'a' : 1,})$q", "line 1, column 20: a value is missing"),
    ("#set($q = [1,])$q", "line 1, column 15: a value is missing after the comma"),
    ("#else x", "line 1, column 1: #else without an open #if or block"),
    ("#if($t)a#else b#else c#end", "line 1, column 16: #else or #elseif after #else, or without an open #if"),
    ("#if($t)a#else b#elseif($t)c#end", "line 1, column 16: #else or #elseif after #else, or without an open #if"),
    ("#set\n($x=1)", "line 2, column 1: #set and its bracket must be on one line, with only spaces between them"),
    ("#set\t($x=1)$x", "line 1, column 6: #set and its bracket must be on one line, with only spaces between them"),
    ("#[[a", "line 1, column 1: ]]# is missing after #[["),
    ("#* #* *# *#", "line 1, column 11: a template cannot end with #"),
    ("#if($t)x #end#", "line 1, column 14: a template cannot end with #"),
    ("100#", "line 1, column 4: a template cannot end with #"),
    ("$name[", "line 1, column 7: a value is missing"),
    ("$name[x", "line 1, column 7: a value is missing"),
    ("$name.length(1", "line 1, column 15: , is missing between values, or ) after them"),
    ("$!{name", "line 1, column 8: } is missing at the end of the reference"),
    ("${name x}", "line 1, column 7: } is missing at the end of the reference"),
    ("${name[0}", "line 1, column 9: ] is missing after the index"),
    ("\\\\#end", "line 1, column 1: #end without an open #if or block"),
    ("#foo('x'", "line 1, column 9: a value is missing"),
    ("#foo($name) #end", "line 1, column 13: #end without an open #if or block"),
    ("#foo(#if($t)a#end)", "line 1, column 6: a value is missing"),
    ("#foo(a=b)", "line 1, column 7: a value is missing"),
    ("#foreach", "line 1, column 9: ( is missing after #foreach"),
];

/// Templates at which Velocity throws.
const FAILING: &[(&str, &str)] = &[
    (
        "$map.k $map.nope $map['k'] $map[\"k\"] $list[0] $list[9] $list[-1] $list.size()",
        "line 2, column 47: index 9 is out of range: the list has 3 items",
    ),
    ("$list.get(9)", "line 2, column 1: index 9 is out of range: the list has 3 items"),
    ("$map.list[$i]", "line 2, column 1: index 7 is out of range: the list has 3 items"),
    ("$list.get(-1)", "line 2, column 1: index -1 is out of range: the list has 3 items"),
    ("#set($s='abc')$s.substring(9)", "line 2, column 15: substring: the string has only 3 characters"),
];
