package authz

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseXFCC(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header string
		want   []element
	}{
		{"as Envoy writes it", `Hash=ab;Cert="-----BEGIN%20";Chain="a%2Bb";Subject="CN=d-1";URI=;DNS=d.example`,
			[]element{{{"Hash", "ab"}, {"Cert", "-----BEGIN%20"}, {"Chain", "a%2Bb"}, {"Subject", "CN=d-1"}, {"URI", ""}, {"DNS", "d.example"}}}},
		{"two proxies", `By=a;Hash=1,By=b;Hash=2`, []element{{{"By", "a"}, {"Hash", "1"}}, {{"By", "b"}, {"Hash", "2"}}}},
		{"two proxies, a space between", `Hash=1, Hash=2`, []element{{{"Hash", "1"}}, {{"Hash", "2"}}}},
		{"separators in quotes", `Subject="a,b;c=d";Hash=1`, []element{{{"Subject", "a,b;c=d"}, {"Hash", "1"}}}},
		{"escaped quote", `Subject="a \"b\" c"`, []element{{{"Subject", `a "b" c`}}}},
		{"escaped backslash before the closing quote", `Subject="a\\";Hash=1`, []element{{{"Subject", `a\`}, {"Hash", "1"}}}},
		{"a DN's own escapes stay", `Subject="CN=a\, b"`, []element{{{"Subject", `CN=a\, b`}}}},
		{"equals sign in a bare value", `URI=urn:a=b`, []element{{{"URI", "urn:a=b"}}}},
		{"empty values", `Hash=;Cert=""`, []element{{{"Hash", ""}, {"Cert", ""}}}},
		{"unknown key", `Future=1`, []element{{{"Future", "1"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseXFCC(tt.header)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("parsed as %q, want %q", got, tt.want)
			}
		})
	}
}

func TestParseXFCCErrors(t *testing.T) {
	for _, tt := range []struct{ name, header, want string }{
		{"empty", ``, "no key=value at byte 0"},
		{"no value", `Hash`, "no key=value at byte 0"},
		{"no key", `=x`, "no key=value at byte 0"},
		{"trailing comma", `Hash=1,`, "no key=value at byte 7"},
		{"trailing semicolon", `Hash=1;`, "no key=value at byte 7"},
		{"empty element", `Hash=1,,Hash=2`, "no key=value at byte 7"},
		{"separator in the key", `a;Hash=1`, "no key=value at byte 0"},
		{"quotes that never close", `Cert="abc`, "unbalanced quotes in the value at byte 0"},
		{"closing quote escaped", `Cert="abc\"`, "unbalanced quotes in the value at byte 0"},
		{"lone backslash at the end", `Cert="abc\`, "unbalanced quotes in the value at byte 0"},
		{"quote within a bare value", `Hash=a"b"`, "a stray quote in the value at byte 0"},
		{"text after the closing quote", `Hash=1;Cert="a"b`, "text after the closing quote in the value at byte 7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseXFCC(tt.header)
			if err == nil || err.Error() != tt.want {
				t.Errorf("parsed as %q, error %v; want error %q", got, err, tt.want)
			}
		})
	}
}

func TestElementGet(t *testing.T) {
	e := element{{"Hash", "1"}, {"cHAIN", "2"}, {"URI", "a"}, {"uri", "b"}}
	if v, err := e.get("Chain"); v != "2" || err != nil {
		t.Errorf("Chain = %q, %v; keys do not care about case", v, err)
	}
	if v, err := e.get("Cert"); v != "" || err != nil {
		t.Errorf("Cert = %q, %v; want nothing", v, err)
	}
	if v, err := e.get("URI"); err == nil {
		t.Errorf("URI = %q though it is there twice", v)
	}
}

// formatXFCC prints what parseXFCC reads, each value in quotes.
func formatXFCC(elements []element) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var b strings.Builder
	for i, e := range elements {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, p := range e {
			if j > 0 {
				b.WriteByte(';')
			}
			b.WriteString(p.key + `="` + escape.Replace(p.value) + `"`)
		}
	}
	return b.String()
}

// FuzzXFCC: no header panics, and what was parsed is parsed again from its
// canonical form.
func FuzzXFCC(f *testing.F) {
	for _, seed := range []string{
		"", `Hash=ab;Cert="-----BEGIN%20";Chain="a%2Bb";Subject="CN=\"d\"\, \\";URI=;DNS=d`,
		`By=a;Hash=1, By=b`, `Cert="abc\"`, `Hash=a"b"`, `Cert=""x`, `a=b;;c=d`, `\="\\\""`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		elements, err := parseXFCC(header)
		if err != nil {
			return
		}
		if len(elements) == 0 {
			t.Fatal("neither an element nor an error")
		}
		again, err := parseXFCC(formatXFCC(elements))
		if err != nil {
			t.Fatalf("%q: canonical form: %v", formatXFCC(elements), err)
		}
		if !reflect.DeepEqual(again, elements) {
			t.Errorf("%q is parsed as %q, its canonical form as %q", header, elements, again)
		}
		for _, e := range elements {
			for _, p := range e {
				if _, err := e.get(p.key); err != nil && !strings.Contains(err.Error(), "twice") {
					t.Errorf("get %q: %v", p.key, err)
				}
			}
		}
	})
}
