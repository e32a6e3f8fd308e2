use super::*;

/// Query, and what PHP 8.2 prints for it: `parse_str($query, $v); echo json_encode($v, JSON_UNESCAPED_UNICODE |
/// JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE);`
const PHP: &[(&[u8], &str)] = &[
    (b"", r#"[]"#),
    (b"a=1", r#"{"a":"1"}"#),
    (b"a", r#"{"a":""}"#),
    (b"a=", r#"{"a":""}"#),
    (b"=1", r#"[]"#),
    (b"&&a=1&", r#"{"a":"1"}"#),
    (b"a=1&a=2", r#"{"a":"2"}"#),
    (b"a[]=1&a[]=2", r#"{"a":["1","2"]}"#),
    (b"a[0]=1&a[1]=2", r#"{"a":["1","2"]}"#),
    (b"a[1]=1&a[0]=2", r#"{"a":{"1":"1","0":"2"}}"#),
    (b"a[1]=x", r#"{"a":{"1":"x"}}"#),
    (b"a[0]=x&a[2]=y", r#"{"a":{"0":"x","2":"y"}}"#),
    (b"a[k]=v", r#"{"a":{"k":"v"}}"#),
    (b"a[k][l]=v", r#"{"a":{"k":{"l":"v"}}}"#),
    (b"a[k][]=1&a[k][]=2", r#"{"a":{"k":["1","2"]}}"#),
    (b"a[][]=1&a[][]=2", r#"{"a":[["1"],["2"]]}"#),
    (b"a[]=1&a[k]=2", r#"{"a":{"0":"1","k":"2"}}"#),
    (b"a=1&a[]=2", r#"{"a":["2"]}"#),
    (b"a[]=1&a=2", r#"{"a":"2"}"#),
    (b"a+b=c+d", r#"{"a_b":"c d"}"#),
    (b"a%20b=c%20d", r#"{"a_b":"c d"}"#),
    (b"a.b=1", r#"{"a_b":"1"}"#),
    (b"a b.c[d e.f]=1", r#"{"a_b_c":{"d e.f":"1"}}"#),
    (b"%20a=1", r#"{"a":"1"}"#),
    (b"+a=1", r#"{"a":"1"}"#),
    (b" a =1", r#"{"a_":"1"}"#),
    (b"a[=1", r#"{"a_":"1"}"#),
    (b"a[b=1", r#"{"a_b":"1"}"#),
    (b"a[b.c d=1", r#"{"a_b_c_d":"1"}"#),
    (b"a[b[c]=1", r#"{"a":{"b[c":"1"}}"#),
    (b"a[b]c=1", r#"{"a":{"b":"1"}}"#),
    (b"a[b]c[d]=1", r#"{"a":{"b":"1"}}"#),
    (b"a]=1", r#"{"a]":"1"}"#),
    (b"a]b[c]=1", r#"{"a]b":{"c":"1"}}"#),
    (b"[a]=1", r#"[]"#),
    (b"[=1", r#"[]"#),
    (b"[]=1", r#"[]"#),
    (b"a[ ]=1", r#"{"a":["1"]}"#),
    (b"a[+]=1", r#"{"a":["1"]}"#),
    (b"a[ b]=1", r#"{"a":{" b":"1"}}"#),
    (b"a[  ]=1", r#"{"a":{"  ":"1"}}"#),
    (b"a[b ]=1", r#"{"a":{"b ":"1"}}"#),
    (b"a[%09]=1", r#"{"a":["1"]}"#),
    (b"a%00b=1", r#"{"a":"1"}"#),
    (b"a[x%00y]=1", r#"{"a_x":"1"}"#),
    (b"a[x]%00[y]=1", r#"{"a":{"x":"1"}}"#),
    (b"a=x%00y", r#"{"a":"x\u0000y"}"#),
    (b"a=%zz", r#"{"a":"%zz"}"#),
    (b"a=%", r#"{"a":"%"}"#),
    (b"a=%4", r#"{"a":"%4"}"#),
    (b"a=%41%zz", r#"{"a":"A%zz"}"#),
    (b"a=%2B", r#"{"a":"+"}"#),
    (b"a=b=c", r#"{"a":"b=c"}"#),
    (b"a%5Bk%5D=v", r#"{"a":{"k":"v"}}"#),
    (b"a%3Db=1", r#"{"a=b":"1"}"#),
    (b"0=a&1=b", r#"["a","b"]"#),
    (b"1=a&0=b", r#"{"1":"a","0":"b"}"#),
    (b"a[01]=x&a[]=y", r#"{"a":{"01":"x","0":"y"}}"#),
    (b"a[5]=x&a[]=y", r#"{"a":{"5":"x","6":"y"}}"#),
    (b"a[-5]=x&a[]=y", r#"{"a":{"-5":"x","-4":"y"}}"#),
    (b"a[-0]=x&a[]=y", r#"{"a":{"-0":"x","0":"y"}}"#),
    (b"a[9223372036854775807]=x&a[]=y", r#"{"a":{"9223372036854775807":"x"}}"#),
    (b"a[9223372036854775808]=x&a[]=y", r#"{"a":{"9223372036854775808":"x","0":"y"}}"#),
    (b"a[-9223372036854775808]=x&a[]=y", r#"{"a":{"-9223372036854775808":"x","-9223372036854775807":"y"}}"#),
    (b"a[-9223372036854775809]=x&a[]=y", r#"{"a":{"-9223372036854775809":"x","0":"y"}}"#),
    (b"a[][k]=1&a[][k]=2", r#"{"a":[{"k":"1"},{"k":"2"}]}"#),
    (b"a[k]=1&a[k][l]=2", r#"{"a":{"k":{"l":"2"}}}"#),
    (b"a[k][l]=1&a[k]=2", r#"{"a":{"k":"2"}}"#),
    (b"a;b=1;c=2", r#"{"a;b":"1;c=2"}"#),
    (b"a[]", r#"{"a":[""]}"#),
    (b"a[b][=1", r#"{"a":{"b":"1"}}"#),
    (b"a[b][c=1", r#"{"a":{"b":"1"}}"#),
    (b"a[b][c.d[e=1", r#"{"a":{"b":"1"}}"#),
    (b"a[b][]=1", r#"{"a":{"b":["1"]}}"#),
    (b"%E2%80%A8=%E2%80%A9", r#"{"\u2028":"\u2029"}"#),
    (b"a=%7F%01%08%0C%0D%0A%09%22%5C/", r#"{"a":"\u0001\b\f\r\n\t\"\\/"}"#),
    ("ж=Привіт&ї[]=є".as_bytes(), r#"{"ж":"Привіт","ї":["є"]}"#),
    ("message=Повідомлення+для".as_bytes(), r#"{"message":"Повідомлення для"}"#),
    (b"a[\"\"]=1", r#"{"a":{"\"\"":"1"}}"#),
    (b"a[0]=1&a[0]=2", r#"{"a":["2"]}"#),
    (b"a[]=1&a[0]=2", r#"{"a":["2"]}"#),
    (b"a[1]=1&a[]=2&a[0]=3", r#"{"a":{"1":"1","2":"2","0":"3"}}"#),
    (b"+=1", r#"[]"#),
    (b"+[]=1", r#"[]"#),
    (b".=1", r#"{"_":"1"}"#),
    (b"..[]=1", r#"{"__":["1"]}"#),
    (b"a[b]=1&a[b]=2&c=3&a[d]=4", r#"{"a":{"b":"2","d":"4"},"c":"3"}"#),
    (b"c=3&a=1&c=4", r#"{"c":"4","a":"1"}"#),
    (b"a[[b]=1", r#"{"a":{"[b":"1"}}"#),
    (b"a[[]=1", r#"{"a":{"[":"1"}}"#),
    (b"a[]]=1", r#"{"a":["1"]}"#),
    (b"a[b]]=1", r#"{"a":{"b":"1"}}"#),
    (b"-1=a", r#"{"-1":"a"}"#),
    (b"__x=1", r#"{"__x":"1"}"#),
    (b"a[%]=1", r#"{"a":{"%":"1"}}"#),
    (b"a[][=1", r#"{"a":["1"]}"#),
    (b"a.[b=1", r#"{"a__b":"1"}"#),
    (b"a.b[c d.e", r#"{"a_b_c_d_e":""}"#),
    (b"a[\x0b]=1", r#"{"a":["1"]}"#),
    (b"a[\x0a\x0a]=1", r#"{"a":{"\n\n":"1"}}"#),
    (b"00=1", r#"{"00":"1"}"#),
    (b"%30=1", r#"["1"]"#),
    (b"a%", r#"{"a%":""}"#),
    (b"%", r#"{"%":""}"#),
    (b"a[b", r#"{"a_b":""}"#),
    (b"a[b[c=1", r#"{"a_b_c":"1"}"#),
    (b"a[b[c.d[e]=1", r#"{"a":{"b[c.d[e":"1"}}"#),
    (b"a[0]x=1", r#"{"a":["1"]}"#),
    (b"a[k]=1&a[]=2&a[]=3", r#"{"a":{"k":"1","0":"2","1":"3"}}"#),
    (b"ab%00[k]=1", r#"{"ab":"1"}"#),
    (b"%00a=1", r#"[]"#),
    (b"a[%00]=1", r#"{"a_":"1"}"#),
    (b"a[]%00=1", r#"{"a":["1"]}"#),
    (b"a[\xff]=\xff", r#"{"a":{"�":"�"}}"#),
    (b"a[9223372036854775807]=x&a[][k]=y&b=1", r#"{"a":{"9223372036854775807":"x"},"b":"1"}"#),
    (b"a[18446744073709551616]=1", r#"{"a":{"18446744073709551616":"1"}}"#),
    (b"a[1e3]=1", r#"{"a":{"1e3":"1"}}"#),
    (b"a[+1]=2", r#"{"a":{" 1":"2"}}"#),
    (b"a[k ]=1", r#"{"a":{"k ":"1"}}"#),
    (b"a[ ]b=1", r#"{"a":["1"]}"#),
    (b"a[ ", r#"{"a__":""}"#),
    (b"a[ ]", r#"{"a":[""]}"#),
    (b"a[ ]]", r#"{"a":[""]}"#),
    (b"a[ k=1", r#"{"a__k":"1"}"#),
    (b"a[\x09k]=1", r#"{"a":{"\tk":"1"}}"#),
    (b"%0Aa=1", r#"{"\na":"1"}"#),
    (b"\x09a=1", r#"{"\ta":"1"}"#),
    (b" [a]=1", r#"[]"#),
    (b"a=1&&&b=2", r#"{"a":"1","b":"2"}"#),
    (b"a==", r#"{"a":"="}"#),
    (b"a%26b=1", r#"{"a&b":"1"}"#),
    (b"a=1&a%5B%5D=2", r#"{"a":["2"]}"#),
    (b"a[b]=1&a[b][]=2", r#"{"a":{"b":["2"]}}"#),
    (b"a[b].c[d]=1", r#"{"a":{"b":"1"}}"#),
    (b"a[b] [c]=1", r#"{"a":{"b":"1"}}"#),
    (b"a[--1]=1", r#"{"a":{"--1":"1"}}"#),
    (b"a[-]=1&a[]=2", r#"{"a":{"-":"1","0":"2"}}"#),
    (b"a[-01]=1", r#"{"a":{"-01":"1"}}"#),
    (b"a[-1]=a&a[-3]=b&a[]=c", r#"{"a":{"-1":"a","-3":"b","0":"c"}}"#),
];

#[test]
fn queries_are_read_as_php_reads_them() {
    for (query, expected) in PHP {
        let parsed = Query::parse(query).unwrap();
        // PHP escapes these two in any case; the formatter of the answers is tested for it.
        let json =
            serde_json::to_string(&parsed).unwrap().replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
        assert_eq!(&json, expected, "{}", String::from_utf8_lossy(query));
    }
}

#[test]
fn a_scalar_or_a_list_of_scalars_is_texts_and_a_map_is_not() {
    let texts = |query: &str| {
        let query = Query::parse(query.as_bytes()).unwrap();
        let texts = query.get("c")?.as_texts()?;
        Some(texts.into_iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect::<Vec<_>>().join(","))
    };
    assert_eq!(texts("c=a").as_deref(), Some("a"));
    assert_eq!(texts("c[]=a&c[]=b&c[]=a").as_deref(), Some("a,b,a"));
    assert_eq!(texts("c[7]=a&c[3]=b").as_deref(), Some("a,b"));
    assert_eq!(texts("c[k]=a"), None);
    assert_eq!(texts("c[][]=a"), None);
    assert_eq!(texts("d=a"), None);
}

#[test]
fn a_hidden_parameter_leaves_no_trace() {
    let shown =
        |query: &str, name| serde_json::to_string(&Query::parse(query.as_bytes()).unwrap().without(name)).unwrap();
    assert_eq!(shown("action=stats&token=secret", "token"), r#"{"action":"stats"}"#);
    assert_eq!(shown("token[]=secret&a[token]=1", "token"), r#"{"a":{"token":"1"}}"#);
    assert_eq!(shown("token=secret", "token"), "[]");
    assert_eq!(shown("0=a&token=secret&1=b", "token"), r#"["a","b"]"#);
    assert_eq!(shown("my.token=secret", &plain_name("my.token")), "[]");
    let query = Query::parse(b"token=secret&auth[a]=secret&a[auth]=1&tokens=2").unwrap();
    let shown = |names: &[&str]| serde_json::to_string(&query.without_any(names)).unwrap();
    assert_eq!(shown(&["token", "auth"]), r#"{"a":{"auth":"1"},"tokens":"2"}"#);
    assert_eq!(shown(&[]), serde_json::to_string(&query).unwrap());
}

#[test]
fn what_is_not_utf_8_keeps_its_bytes() {
    let query = Query::parse(b"a=%ff%00&b=\xc3").unwrap();
    assert_eq!(query.get("a").unwrap().as_text().unwrap().as_ref(), b"\xff\0");
    assert_eq!(query.get("b").unwrap().as_text().unwrap().as_ref(), b"\xc3");
}

#[test]
fn too_many_values_and_too_deep_names_are_errors() {
    let many = |count: usize| Query::parse("a[]=1&".repeat(count).as_bytes()).map(|_| ());
    // Each `a[]=1` is paid as two: the array might have been a new one.
    assert_eq!(many(MAX_VALUES / 2), Ok(()));
    assert_eq!(many(MAX_VALUES / 2 + 1), Err(QueryError::TooMany));
    let deep = |depth: usize| Query::parse(format!("a{}=1", "[b]".repeat(depth)).as_bytes()).map(|_| ());
    assert_eq!(deep(MAX_DEPTH), Ok(()));
    assert_eq!(deep(MAX_DEPTH + 1), Err(QueryError::TooDeep));
}
