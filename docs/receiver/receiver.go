// Takes the notifications of one target. PORT and WEBHOOK_SECRET (whsec_...) stand in the environment: go run receiver.go
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

var key, bad = base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("WEBHOOK_SECRET"), "whsec_"))
var done, lock = map[string]bool{}, sync.Mutex{} // In earnest: ids where a restart does not lose them.

func genuine(headers http.Header, body []byte) bool {
	id, stamp, given := headers.Get("webhook-id"), headers.Get("webhook-timestamp"), headers.Get("webhook-signature")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if age := time.Now().Unix() - seconds; err != nil || len(stamp) > 12 || age > 300 || age < -300 {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(append([]byte(id+"."+stamp+"."), body...))
	right := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	same := false
	for _, one := range strings.Split(given, " ") {
		same = hmac.Equal(right, []byte(one)) || same
	}
	return same
}

func take(answer http.ResponseWriter, request *http.Request) {
	// As it came, before anything parses it.
	body, err := io.ReadAll(http.MaxBytesReader(answer, request.Body, 1<<20))
	if err != nil || !genuine(request.Header, body) {
		answer.WriteHeader(401)
		return
	}
	lock.Lock()
	defer lock.Unlock()
	// A test of the way here, whose id begins with test_, asks for nothing.
	if id := request.Header.Get("webhook-id"); !done[id] && !strings.HasPrefix(id, "test_") {
		fmt.Println(id, string(body)) // What you do. If it fails, answer 500.
		done[id] = true
	}
	answer.WriteHeader(204)
}

func main() {
	if bad != nil || len(key) < 24 {
		panic("WEBHOOK_SECRET is whsec_ and base64")
	}
	server := http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Handler: http.HandlerFunc(take), ReadTimeout: 10 * time.Second}
	panic(server.ListenAndServe())
}
