package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/hubgate/hubgate/admin/access"
)

const documentFile = "openapi.json"

// TestDocument holds openapi.json to the table of routes, and to the OpenAPI
// specification. HUBGATE_RENEW=1 writes it anew.
func TestDocument(t *testing.T) {
	t.Parallel()
	want := describe(t)
	if os.Getenv("HUBGATE_RENEW") != "" {
		if err := os.WriteFile(documentFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(documentFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("admin/%s is not what the routes say: renew it with HUBGATE_RENEW=1 go test -run TestDocument ./admin", documentFile)
	}
	parsed, err := libopenapi.NewDocument(want)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(parsed)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	defer v.Release()
	if ok, problems := v.ValidateDocument(); !ok {
		for _, p := range problems {
			t.Errorf("%s: %s: %+v", p.Message, p.Reason, p.SchemaValidationErrors)
		}
	}
}

// description makes the document out of the routes.
type description struct {
	t        *testing.T
	api      *huma.OpenAPI
	types    huma.Registry
	comments map[string]string // by type, and by type.field
}

func describe(t *testing.T) []byte {
	huma.DefaultArrayNullable = false // a list without entries is [], and tests hold that
	types := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	d := description{t: t, types: types, comments: readComments(t), api: &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "hubgate", Version: "1",
			Description: "Administration of hubs and devices. Errors are `{\"error\": code, \"message\": text}`: programs read the code, people the text. " +
				"Unknown fields and query parameters are refused. A hub of a project that a token does not see is not found.",
			License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
		},
		Servers: []*huma.Server{{URL: "http://127.0.0.1:9192", Description: "the default listener"}},
		Components: &huma.Components{
			Schemas: types,
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"bearer": {Type: "http", Scheme: "bearer", Description: "A token's secret, a UUID."},
				"header": {Type: "apiKey", In: "header", Name: "X-Auth-Token", Description: "The same, as Scaleway's clients send it."},
			},
			Responses: map[string]*huma.Response{},
		},
		Security: []map[string][]string{{"bearer": {}}, {"header": {}}},
	}}
	d.api.Components.Responses["Error"] = &huma.Response{
		Description: "The request was refused, or failed.",
		Content: map[string]*huma.MediaType{"application/json": {
			Schema: d.schema(Failure{}), Example: Failure{Error: "not_found", Message: `hub "factory" not found`},
		}},
	}
	for _, r := range (&Server{}).table() {
		d.add(r)
	}
	d.comment()
	d.nullable()
	d.open()
	text, err := json.Marshal(d.api)
	if err != nil {
		t.Fatal(err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "", "  "); err != nil {
		t.Fatal(err)
	}
	indented.WriteByte('\n')
	return indented.Bytes()
}

func (d description) schema(example any) *huma.Schema {
	return d.types.Schema(reflect.TypeOf(example), true, "")
}

var pathVariable = regexp.MustCompile(`\{(\w+)\}`)

// variables say what stands in a path.
var variables = map[string]string{
	"hub":         "ID or name of the hub.",
	"device":      "ID or name of the device.",
	"fingerprint": "SHA-256 of the certificate, 64 hexadecimal digits.",
	"token":       "ID of the token.",
	"revocation":  "ID of the revocation, 32 hexadecimal digits.",
	"issuer":      "SHA-256 of the issuer's key, 64 hexadecimal digits.",
}

func (d description) add(r route) {
	op := &huma.Operation{
		OperationID: r.id, Method: r.method, Path: r.path, Summary: r.summary, Tags: []string{tag(r.path)},
		Responses: map[string]*huma.Response{"default": {Ref: "#/components/responses/Error"}},
	}
	switch {
	case r.role == 0:
		op.Security = []map[string][]string{}
		op.Description = "Needs no token."
	case r.everywhere:
		op.Description = fmt.Sprintf("Needs the role %s, of all projects.", r.role)
	default:
		op.Description = fmt.Sprintf("Needs the role %s.", r.role)
	}
	for _, v := range pathVariable.FindAllStringSubmatch(r.path, -1) {
		text, ok := variables[v[1]]
		if !ok {
			d.t.Errorf("%s %s: {%s} has no text in variables", r.method, r.path, v[1])
		}
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: v[1], In: "path", Required: true, Description: text, Schema: &huma.Schema{Type: "string"},
		})
	}
	for _, p := range r.query {
		op.Parameters = append(op.Parameters, &huma.Param{Name: p.name, In: "query", Description: p.text, Schema: parameterSchema(p)})
	}
	if r.bodyType != "" || r.body != nil {
		op.RequestBody = &huma.RequestBody{Required: true, Content: d.content(r.bodyType, r.body)}
	}
	response := &huma.Response{Description: "Success."}
	if r.answerType != "" || r.answer != nil {
		response.Content = d.content(r.answerType, r.answer)
	}
	op.Responses[strconv.Itoa(r.success())] = response
	d.api.AddOperation(op)
}

// content is what a body is: JSON of the example's type, or text of another
// media type.
func (d description) content(mediaType string, example any) map[string]*huma.MediaType {
	if mediaType == "" {
		return map[string]*huma.MediaType{"application/json": {Schema: d.schema(example), Example: example}}
	}
	return map[string]*huma.MediaType{mediaType: {Schema: &huma.Schema{Type: "string"}, Example: example}}
}

// tag groups operations by what they are about.
func tag(path string) string {
	words := strings.Split(strings.TrimPrefix(path, "/v1/"), "/")
	for _, word := range slices.Backward(words) {
		if slices.Contains([]string{"hubs", "anchors", "intermediates", "devices", "sessions", "events", "tokens"}, word) {
			return word
		}
	}
	return "hubgate"
}

func parameterSchema(p parameter) *huma.Schema {
	switch {
	case p.most > 0:
		least, most := float64(p.least), float64(p.most)
		return &huma.Schema{Type: "integer", Minimum: &least, Maximum: &most}
	case slices.Equal(p.values, trueOrFalse):
		return &huma.Schema{Type: "boolean"}
	}
	s := &huma.Schema{Type: "string"}
	for _, v := range p.values {
		s.Enum = append(s.Enum, v)
	}
	return s
}

// open lets answers have fields that a client does not know yet. Bodies of
// requests stay closed, as the server refuses unknown fields.
func (d description) open() {
	closed := make(map[string]bool)
	var closeOff func(s *huma.Schema)
	closeOff = func(s *huma.Schema) {
		if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
			closed[name] = true
			s = d.types.Map()[name]
		}
		for _, property := range s.Properties {
			closeOff(property)
		}
		for _, of := range append(s.AnyOf, s.Items) {
			if of != nil {
				closeOff(of)
			}
		}
	}
	for _, path := range d.api.Paths {
		for _, op := range []*huma.Operation{path.Post, path.Put, path.Patch} {
			if op != nil && op.RequestBody != nil {
				for _, content := range op.RequestBody.Content {
					closeOff(content.Schema)
				}
			}
		}
	}
	for name, s := range d.types.Map() {
		if !closed[name] && s.AdditionalProperties == false {
			s.AdditionalProperties = nil
		}
	}
}

// nullable says of objects that are always there, or whose field has the tag
// openapi:"nullable", that they may be null.
func (d description) nullable() {
	for name, s := range d.types.Map() {
		for _, field := range reflect.VisibleFields(d.types.TypeFromRef("#/components/schemas/" + name)) {
			tag := field.Tag.Get("json")
			key, options, _ := strings.Cut(tag, ",")
			if p := s.Properties[key]; p != nil && p.Ref != "" && field.Type.Kind() == reflect.Pointer &&
				(options == "" || field.Tag.Get("openapi") == "nullable") {
				s.Properties[key] = &huma.Schema{AnyOf: []*huma.Schema{{Ref: p.Ref}, {Type: "null"}}, Description: p.Description}
			}
		}
	}
}

// comment describes types and fields with what their comments say.
func (d description) comment() {
	for name, s := range d.types.Map() {
		s.Description = d.comments[name]
		for field, property := range s.Properties {
			if text := d.comments[name+"."+field]; text != "" && property.Description == "" {
				property.Description = text
			}
		}
	}
}

// readComments reads the comments of this package's types, with JSON names in
// the place of Go's.
func readComments(t *testing.T) map[string]string {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	comments := make(map[string]string)
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				named, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				comments[named.Name.Name] = oneLine(general.Doc.Text())
				if s, ok := named.Type.(*ast.StructType); ok {
					for _, field := range s.Fields.List {
						maps.Copy(comments, fieldComment(named.Name.Name, field))
					}
				}
			}
		}
	}
	return comments
}

func fieldComment(typeName string, field *ast.Field) map[string]string {
	text := oneLine(field.Doc.Text())
	if text == "" {
		text = oneLine(field.Comment.Text())
	}
	if text == "" || field.Tag == nil || len(field.Names) != 1 {
		return nil
	}
	unquoted, err := strconv.Unquote(field.Tag.Value)
	if err != nil {
		return nil
	}
	name, _, _ := strings.Cut(reflect.StructTag(unquoted).Get("json"), ",")
	if rest, ok := strings.CutPrefix(text, field.Names[0].Name+" "); ok {
		text = name + " " + rest
	}
	return map[string]string{typeName + "." + name: text}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// TestTable holds what every route has to say.
func TestTable(t *testing.T) {
	t.Parallel()
	ids := make(map[string]bool)
	for _, r := range (&Server{}).table() {
		name := r.method + " " + r.path
		switch {
		case r.id == "" || ids[r.id]:
			t.Errorf("%s: its id %q is none, or taken", name, r.id)
		case r.summary == "" || strings.HasSuffix(r.summary, "."):
			t.Errorf("%s: its summary is to be one sentence without a dot: %q", name, r.summary)
		case (r.serve == nil) == (r.stream == nil):
			t.Errorf("%s: exactly one of serve and stream answers", name)
		case r.role == 0 && r.path != "/v1/openapi.json":
			t.Errorf("%s: everybody may ask it", name)
		case r.method != "GET" && r.role < access.Operator:
			t.Errorf("%s: a %s may change something", name, r.role)
		}
		ids[r.id] = true
	}
}
