package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"
)

// sink takes a good batch; when Store gives nil the batch may be acknowledged.
type sink interface {
	Store(ctx context.Context, batch *batch, received time.Time) error
	Close() error
}

func openSink(name, brokers, topic string) (sink, error) {
	switch name {
	case "none":
		return noSink{}, nil
	case "kafka":
		return newKafkaSink(brokers, topic), nil
	}
	return nil, fmt.Errorf("-sink is %q; it must be none or kafka", name)
}

// noSink keeps nothing.
type noSink struct{}

func (noSink) Store(context.Context, *batch, time.Time) error { return nil }
func (noSink) Close() error                                   { return nil }

// kafkaSink sends a batch as one record, an event a line, as ClickHouse's JSONEachRow reads it.
type kafkaSink struct{ writer *kafka.Writer }

func newKafkaSink(brokers, topic string) *kafkaSink {
	return &kafkaSink{&kafka.Writer{
		Addr:         kafka.TCP(brokers),
		Topic:        topic,
		RequiredAcks: kafka.RequireAll,
		Compression:  kafka.Lz4,
		// The default of a second is for writers that nobody waits for.
		BatchTimeout: lingerMax,
		BatchBytes:   recordsBytesMax,
	}}
}

const (
	// As the hyper peer's linger.ms.
	lingerMax       = time.Millisecond
	recordsBytesMax = 1_000_000
)

// row is an event as it is stored.
type row struct {
	AppID      uuid.UUID `json:"app_id"`
	ReceivedAt time.Time `json:"received_at"`
	*event
}

func (s *kafkaSink) Store(ctx context.Context, batch *batch, received time.Time) error {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	encoder.SetEscapeHTML(false)
	for i := range batch.Events {
		if err := encoder.Encode(row{batch.AppID, received, &batch.Events[i]}); err != nil {
			return err
		}
	}
	return s.writer.WriteMessages(ctx, kafka.Message{Value: lines.Bytes()})
}

func (s *kafkaSink) Close() error { return s.writer.Close() }
