// The Go peer: the ingestion endpoint as Go teams commonly write it, with Fiber, encoding/json and kafka-go.
//
// It owns the command line and the server; batch.go has the contract of a batch, sink.go the way to Kafka.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/google/uuid"
)

// As the engine's own limit of a body.
const bodyBytesMax = 16 << 20

// A head is read into this; clients of ours send a few hundred bytes.
const headBytesMax = 32 << 10

func main() {
	listen := flag.String("listen", "127.0.0.1:8090", "address to serve on")
	appID := flag.String("app-id", "", "the app whose events are taken; its key is in PEER_API_KEY")
	sinkName := flag.String("sink", "none", "none: events end once they are checked; kafka: a 200 says that Kafka has them")
	brokers := flag.String("brokers", "127.0.0.1:9092", "of -sink kafka")
	topic := flag.String("topic", "events", "of -sink kafka")
	flag.Parse()

	app, err := uuid.Parse(*appID)
	if err != nil {
		log.Fatalf("-app-id: %v", err)
	}
	key := os.Getenv("PEER_API_KEY")
	if key == "" {
		log.Fatal("PEER_API_KEY is not set")
	}
	sink, err := openSink(*sinkName, *brokers, *topic)
	if err != nil {
		log.Fatal(err)
	}
	server := newServer(map[string]uuid.UUID{key: app}, sink)

	stop, release := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer release()
	err = server.Listen(*listen, fiber.ListenConfig{DisableStartupMessage: true, GracefulContext: stop})
	if closed := sink.Close(); closed != nil {
		err = errors.Join(err, closed)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// newServer answers POST /api/v1/events for the apps of these keys.
func newServer(apps map[string]uuid.UUID, sink sink) *fiber.App {
	server := fiber.New(fiber.Config{
		BodyLimit:      bodyBytesMax,
		ReadBufferSize: headBytesMax,
		ErrorHandler:   answerError,
	})
	server.Post("/api/v1/events", func(c fiber.Ctx) error {
		received := time.Now()
		app, known := apps[c.Get("X-API-Key")]
		if !known {
			return refuse(fiber.StatusUnauthorized, "UNAUTHORIZED", "the key is not valid")
		}
		var batch batch
		if err := c.Bind().JSON(&batch); err != nil {
			return refuse(fiber.StatusBadRequest, "INVALID_REQUEST", err.Error())
		}
		if batch.AppID != app {
			return refuse(fiber.StatusForbidden, "FORBIDDEN", "the key belongs to another app")
		}
		if err := batch.check(received); err != nil {
			return refuse(fiber.StatusBadRequest, "VALIDATION_ERROR", err.Error())
		}
		if err := sink.Store(c.Context(), &batch, received); err != nil {
			log.Printf("storing a batch: %v", err)
			return refuse(fiber.StatusServiceUnavailable, "UNAVAILABLE", "the batch could not be stored")
		}
		return c.JSON(taken(len(batch.Events), time.Since(received)), fiber.MIMEApplicationJSON)
	})
	return server
}

// success is the answer to a batch that was taken.
type success struct {
	Status string `json:"status"`
	Data   struct {
		EventsReceived int    `json:"events_received"`
		Status         string `json:"status"`
	} `json:"data"`
	Meta struct {
		ProcessingTimeMs float64 `json:"processing_time_ms"`
		Count            int     `json:"count"`
	} `json:"meta"`
}

func taken(events int, took time.Duration) *success {
	answer := &success{Status: "success"}
	answer.Data.EventsReceived = events
	answer.Data.Status = "processing"
	answer.Meta.ProcessingTimeMs = float64(took.Microseconds()) / 1000
	answer.Meta.Count = events
	return answer
}

// refusal is the answer to anything else.
type refusal struct {
	status  int
	Status  string `json:"status"`
	Text    string `json:"error"`
	Code    string `json:"code"`
	Details string `json:"details"`
}

func (r *refusal) Error() string { return r.Code + ": " + r.Text }

func refuse(status int, code, text string) *refusal {
	return &refusal{status: status, Status: "error", Text: text, Code: code}
}

func answerError(c fiber.Ctx, err error) error {
	var refused *refusal
	if !errors.As(err, &refused) {
		status := fiber.StatusInternalServerError
		var fromFiber *fiber.Error
		if errors.As(err, &fromFiber) {
			status = fromFiber.Code
		}
		refused = refuse(status, codeOf(status), err.Error())
	}
	return c.Status(refused.status).JSON(refused, fiber.MIMEApplicationJSON)
}

func codeOf(status int) string {
	switch status {
	case fiber.StatusNotFound:
		return "NOT_FOUND"
	case fiber.StatusMethodNotAllowed:
		return "METHOD_NOT_ALLOWED"
	case fiber.StatusRequestEntityTooLarge:
		return "PAYLOAD_TOO_LARGE"
	case fiber.StatusInternalServerError:
		return "INTERNAL_ERROR"
	default:
		return "INVALID_REQUEST"
	}
}
