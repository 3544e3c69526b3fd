package admin

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

// contract holds every answer of the tests, and every body that was accepted,
// to the OpenAPI document.
type contract struct {
	mu        sync.Mutex
	validator validator.Validator
	answered  map[string]bool // by pattern: with a success
}

var promised = sync.OnceValues(func() (*contract, error) {
	parsed, err := libopenapi.NewDocument(document)
	if err != nil {
		return nil, err
	}
	v, errs := validator.NewValidator(parsed)
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return &contract{validator: v, answered: make(map[string]bool)}, nil
})

// hold checks one exchange. Of what is a stream of lines, the document has no
// schema.
func (r *rig) hold(sent *http.Request, body string, response *http.Response, text string) {
	r.t.Helper()
	c, err := promised()
	if err != nil {
		r.t.Fatal(err)
	}
	_, pattern := r.server.native.(*http.ServeMux).Handler(sent)
	if _, path, ok := strings.Cut(pattern, " "); !ok || path == "/" {
		return // there is no such route, and no promise
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	again := func(body string) *http.Request {
		request := sent.Clone(sent.Context())
		request.Body = io.NopCloser(strings.NewReader(body))
		return request
	}
	copied := *response
	copied.Body = io.NopCloser(strings.NewReader(text))
	isJSON := strings.HasPrefix(response.Header.Get("Content-Type"), "application/json")
	if ok, problems := c.validator.ValidateHttpResponse(again(""), &copied); !ok && (isJSON || text == "") {
		for _, p := range problems {
			r.t.Errorf("%s %s: %d %s\nis not what the document promises: %s: %s %v", sent.Method, sent.URL, response.StatusCode, text, p.Message, p.Reason, p.SchemaValidationErrors)
		}
	}
	if response.StatusCode >= 300 {
		return
	}
	c.answered[pattern] = true
	if body != "" && isJSON {
		request := again(body)
		if request.Header.Get("Content-Type") == "" {
			request.Header.Set("Content-Type", "application/json")
		}
		if ok, problems := c.validator.GetRequestBodyValidator().ValidateRequestBody(request); !ok {
			for _, p := range problems {
				r.t.Errorf("%s %s %s\nwas accepted, and the document forbids it: %s: %s %v", sent.Method, sent.URL, body, p.Message, p.Reason, p.SchemaValidationErrors)
			}
		}
	}
	if ok, problems := c.validator.GetParameterValidator().ValidateQueryParams(again("")); !ok {
		for _, p := range problems {
			r.t.Errorf("%s %s\nwas accepted, and the document forbids it: %s: %s", sent.Method, sent.URL, p.Message, p.Reason)
		}
	}
}

// TestMain demands, of a run of all tests, that each route answered at least
// once as the document promises.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 && flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.fuzz").Value.String() == "" &&
		flag.Lookup("test.list").Value.String() == "" {
		code = missing()
	}
	os.Exit(code)
}

func missing() int {
	c, err := promised()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	var never bytes.Buffer
	for _, e := range (&Server{}).table() {
		if pattern := e.method + " " + e.path; !c.answered[pattern] {
			fmt.Fprintln(&never, pattern)
		}
	}
	if never.Len() > 0 {
		fmt.Printf("no test had a good answer of\n%s", never.String())
		return 1
	}
	return 0
}
