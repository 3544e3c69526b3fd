package access_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/hubgate/hubgate/admin/access"
)

func TestRoles(t *testing.T) {
	t.Parallel()
	for _, has := range []access.Role{access.Viewer, access.Operator, access.Admin} {
		if parsed, err := access.ParseRole(has.String()); err != nil || parsed != has {
			t.Errorf("%s parsed as %v, %v", has, parsed, err)
		}
		for _, needs := range []access.Role{access.Viewer, access.Operator, access.Admin} {
			err := access.Principal{Name: "p", Role: has}.Need(needs)
			if (err == nil) != (has >= needs) || err != nil && !errors.Is(err, access.ErrDenied) {
				t.Errorf("%s needs %s: %v", has, needs, err)
			}
		}
	}
	for _, name := range []string{"", "Admin", "root", "role 0"} {
		if r, err := access.ParseRole(name); err == nil {
			t.Errorf("%q parsed as %s", name, r)
		}
	}
}

// TestNobody holds that who is nobody may do nothing: a forgotten principal
// fails closed.
func TestNobody(t *testing.T) {
	t.Parallel()
	p, ok := access.From(context.Background())
	if ok || p.Sees(uuid.Nil) || p.Need(0) == nil || p.Need(access.Viewer) == nil || p.NeedEverywhere(access.Viewer) == nil {
		t.Errorf("nobody may do something: %+v", p)
	}
	if p, ok := access.From(access.With(context.Background(), access.Local())); !ok || p != access.Local() {
		t.Errorf("got %+v, %v", p, ok)
	}
}

func TestProjects(t *testing.T) {
	t.Parallel()
	mine, other := uuid.New(), uuid.New()
	scoped := access.Principal{Name: "p", Role: access.Admin, Project: mine}
	if !scoped.Sees(mine) || scoped.Sees(other) || scoped.Sees(uuid.Nil) {
		t.Error("a principal of a project sees that project, and no other")
	}
	if all := access.Local(); !all.Sees(mine) || !all.Sees(uuid.Nil) || all.NeedEverywhere(access.Admin) != nil {
		t.Error("the local administrator sees and may do everything")
	}
	if err := scoped.NeedEverywhere(access.Admin); !errors.Is(err, access.ErrDenied) {
		t.Errorf("an admin of one project may act on all: %v", err)
	}
}
