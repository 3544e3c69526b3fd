package admin

import (
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
	"github.com/hubgate/hubgate/provision"
)

// Token is a token as the API shows it.
type Token struct {
	ID   string `json:"id" format:"uuid"`
	Name string `json:"name"`
	Role string `json:"role" enum:"viewer,operator,admin"`
	// ProjectID is the only project whose hubs the token sees; without it, all.
	ProjectID string    `json:"project_id,omitempty" format:"uuid"`
	CreatedAt time.Time `json:"created_at"`
	// RotatedAt is when it got its present secret, if not its first.
	RotatedAt *time.Time `json:"rotated_at,omitempty"`
	// Secret is there once: when the token is made or rotated.
	Secret string `json:"secret,omitempty" format:"uuid"`
}

// Tokens is a list of tokens.
type Tokens struct {
	Tokens []Token `json:"tokens"`
}

// NewToken is a token to make.
type NewToken struct {
	// Name is unique: 1 to 64 of a-z, 0-9, dot, dash, underscore.
	Name string `json:"name" minLength:"1" maxLength:"64"`
	Role string `json:"role" enum:"viewer,operator,admin"`
	// ProjectID limits the token to the hubs of one project.
	ProjectID string `json:"project_id,omitempty" format:"uuid"`
}

func (s *Server) tokenRoutes() []route {
	const all, one = "/v1/tokens", "/v1/tokens/{token}"
	return []route{
		{
			method: "GET", path: all, id: "listTokens", summary: "List the stored tokens by name; those of the configuration are not among them",
			role: access.Admin, everywhere: true, answer: Tokens{Tokens: []Token{exampleToken}}, serve: s.listTokens,
		},
		{
			method: "POST", path: all, id: "createToken", summary: "Make a token; its secret is told once, here",
			role: access.Admin, everywhere: true, body: exampleNewToken, answer: exampleMade, status: http.StatusCreated, serve: s.createToken,
		},
		{
			method: "DELETE", path: one, id: "revokeToken", summary: "Revoke a token, on every replica within two seconds",
			role: access.Admin, everywhere: true, serve: s.revokeToken,
		},
		{
			method: "POST", path: one + "/rotate", id: "rotateToken", summary: "Give a token another secret; the old one is dead at once, on other replicas within two seconds",
			role: access.Admin, everywhere: true, answer: exampleMade, serve: s.rotateToken,
		},
	}
}

func showToken(t provision.Token, secret string) Token {
	shown := Token{ID: t.ID.String(), Name: t.Name, Role: t.Role, CreatedAt: t.CreatedAt.UTC(), Secret: secret}
	if t.Project != uuid.Nil {
		shown.ProjectID = t.Project.String()
	}
	if !t.RotatedAt.IsZero() {
		at := t.RotatedAt.UTC()
		shown.RotatedAt = &at
	}
	return shown
}

var errNoTokens = &requestError{http.StatusNotImplemented, "not_supported", "this hubgate keeps no tokens"}

func (s *Server) listTokens(r *http.Request) (any, error) {
	if s.tokens == nil {
		return nil, errNoTokens
	}
	p, _ := access.From(r.Context())
	tokens, err := s.tokens.List(r.Context(), p)
	if err != nil {
		return nil, err
	}
	list := Tokens{Tokens: make([]Token, len(tokens))}
	for i, t := range tokens {
		list.Tokens[i] = showToken(t, "")
	}
	return list, nil
}

func (s *Server) createToken(r *http.Request) (any, error) {
	if s.tokens == nil {
		return nil, errNoTokens
	}
	var n NewToken
	if err := decode(r, &n); err != nil {
		return nil, err
	}
	role, err := access.ParseRole(n.Role)
	if err != nil {
		return nil, invalid("role: %q is none of viewer, operator, admin", n.Role)
	}
	var project uuid.UUID
	if n.ProjectID != "" {
		if project, err = uuid.Parse(n.ProjectID); err != nil || len(n.ProjectID) != 36 || project == uuid.Nil {
			return nil, invalid("project_id: %q is no UUID", n.ProjectID)
		}
	}
	p, _ := access.From(r.Context())
	t, secret, err := s.tokens.Create(r.Context(), p, n.Name, role, project)
	switch {
	case errors.Is(err, access.ErrInvalid):
		return nil, invalid("%s", access.Problem(err))
	case err != nil:
		return nil, err
	}
	return showToken(t, secret), nil
}

func (s *Server) revokeToken(r *http.Request) (any, error) {
	id, err := s.tokenID(r)
	if err != nil {
		return nil, err
	}
	p, _ := access.From(r.Context())
	return nil, s.tokens.Revoke(r.Context(), p, id)
}

func (s *Server) rotateToken(r *http.Request) (any, error) {
	id, err := s.tokenID(r)
	if err != nil {
		return nil, err
	}
	p, _ := access.From(r.Context())
	t, secret, err := s.tokens.Rotate(r.Context(), p, id)
	if err != nil {
		return nil, err
	}
	return showToken(t, secret), nil
}

func (s *Server) tokenID(r *http.Request) (uuid.UUID, error) {
	if s.tokens == nil {
		return uuid.Nil, errNoTokens
	}
	id, err := uuid.Parse(r.PathValue("token"))
	if err != nil {
		return uuid.Nil, invalid("token: %q is no UUID", r.PathValue("token"))
	}
	return id, nil
}
