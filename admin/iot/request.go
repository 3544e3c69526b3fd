package iot

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// decode reads a JSON body of exactly the fields that the SDK's requests have.
// No body at all is an empty one.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if media, _, bad := mime.ParseMediaType(r.Header.Get("Content-Type")); bad != nil || media != "application/json" {
		return &failure{status: http.StatusUnsupportedMediaType, Type: "unsupported_media_type", Message: "send the body as application/json"}
	}
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("more than one value")
		}
	}
	var (
		large  *http.MaxBytesError
		wrong  *json.UnmarshalTypeError
		syntax = strings.TrimPrefix(err.Error(), "json: ")
	)
	switch field, unknown := strings.CutPrefix(syntax, "unknown field "); {
	case errors.As(err, &large):
		return err
	case errors.As(err, &wrong) && wrong.Field != "":
		return invalid(wrong.Field, format, "a JSON %s does not belong here", wrong.Value)
	case unknown:
		return invalid(strings.Trim(field, `"`), constraint, "this request has no such field")
	}
	return invalid("body", format, "the body is not the JSON object that belongs here: %s", syntax)
}

// query is the parameters of a list.
type query struct {
	url.Values
}

// parameters refuses those that are not known: a mistyped one would be ignored
// where it was meant to narrow.
func parameters(r *http.Request, known ...string) (query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query{}, invalid("query", format, "it cannot be read: %v", err)
	}
	for name, all := range values {
		if !slices.Contains(known, name) {
			return query{}, invalid(name, constraint, "there is no such parameter here; there are %s", strings.Join(known, ", "))
		}
		if len(all) > 1 {
			return query{}, invalid(name, constraint, "it is given %d times", len(all))
		}
	}
	return query{values}, nil
}

// window is the part of a list that is asked for.
type window struct {
	offset, size int
}

const (
	defaultPage = 100
	maxPage     = 100
)

func (q query) window() (window, error) {
	page, err := q.number("page", 1, 1, 1<<31-1)
	if err != nil {
		return window{}, err
	}
	size, err := q.number("page_size", defaultPage, 1, maxPage)
	return window{(page - 1) * size, size}, err
}

func (q query) number(name string, otherwise, least, most int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, invalid(name, format, "%q is no number", text)
	}
	if n < least || n > most {
		return 0, invalid(name, constraint, "it has to be from %d to %d", least, most)
	}
	return n, nil
}

// parseID takes the canonical form of a UUID, as the SDK writes it.
func parseID(argument, text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 {
		return uuid.Nil, invalid(argument, format, "%q is not a UUID", text)
	}
	return id, nil
}

func (q query) flag(name string) (*bool, error) {
	switch text := q.Get(name); text {
	case "":
		return nil, nil
	case "true", "false":
		is := text == "true"
		return &is, nil
	default:
		return nil, invalid(name, format, "%q is neither true nor false", text)
	}
}

// order reads the order of a list: what by, and whether downwards.
func (q query) order(fields ...string) (field string, descending bool, err error) {
	values := make([]string, 0, 2*len(fields))
	for _, f := range fields {
		values = append(values, f+"_asc", f+"_desc")
	}
	value, err := q.oneOf("order_by", "name_asc", values)
	field, descending = strings.CutSuffix(value, "_desc")
	return strings.TrimSuffix(field, "_asc"), descending, err
}

// oneOf returns the value of a parameter that has few.
func (q query) oneOf(name, otherwise string, values []string) (string, error) {
	text := q.Get(name)
	switch {
	case text == "":
		return otherwise, nil
	case slices.Contains(values, text):
		return text, nil
	}
	return "", invalid(name, constraint, "%q is none of %s", text, strings.Join(values, ", "))
}

// part cuts the window out of a whole list.
func part[T any](all []T, w window) []T {
	from := min(w.offset, len(all))
	return all[from:min(from+w.size, len(all))]
}

// count is a total as the SDK reads it.
func count(n int) uint32 { return uint32(min(max(n, 0), 1<<32-1)) }
