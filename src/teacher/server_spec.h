// How a teacher behind an OpenAI-compatible server is asked: `teacher.server`, and `teacher.answers` where it
// is to write answers.
#pragma once
#include <cstdint>
#include <string>

#include "spec/fields.h"

namespace retort {

struct ServerSpec {
  std::string model = "", asks = "auto";
  std::string token_file = "", ca_file = "";
  int64_t batch = 1, concurrent = 4;
  int64_t requests_per_minute = 0;
  int64_t tries = 6;
  double first_wait = 0.5;
  double timeout = 600;

  template <class Visitor> void fields(Visitor& field) {
    field("model", model, any(), "the model's name at the server; empty = the only one that it lists");
    field("asks", asks, one_of({"auto", "prompt_logprobs", "echo"}),
          "how log-probabilities of given texts are asked for: prompt_logprobs = token ids in and out "
          "(vLLM); echo = texts (llama-cpp-python, SGLang); auto = the first that works");
    field("token_file", token_file, any(),
          "file that holds the bearer token, one line; empty = none. Over http:// only to this machine");
    field("ca_file", ca_file, any(),
          "PEM file of the authorities that the server's certificate is verified against; empty = the "
          "system's");
    field("batch", batch, between(1, 1024),
          "texts in one request for log-probabilities; llama-cpp-python takes 1");
    field("concurrent", concurrent, between(1, 256), "requests at the same time");
    field("requests_per_minute", requests_per_minute, at_least(0), "at most; 0 = no limit");
    field("tries", tries, between(1, 100),
          "of a request that fails in a way that may pass: no connection, 408, 429, 5xx, a broken answer");
    field("first_wait", first_wait, between(0.001, 600),
          "seconds before the second try; doubled for each further one up to a minute. What the server asks "
          "for in Retry-After counts when it is longer");
    field("timeout", timeout, between(0.1, 86400), "seconds that one request may take");
  }
};

struct AnswersSpec {
  std::string file = "";
  int64_t per_prompt = 1;
  int64_t max_tokens = 512;
  double temperature = 1, top_p = 1;
  int64_t seed = 7;

  template <class Visitor> void fields(Visitor& field) {
    field("file", file, required(not_empty()),
          "JSONL file that `retort-online teach` fills or completes: one answer a line, a data source for "
          "another recipe");
    field("per_prompt", per_prompt, between(1, 1024), "answers to each prompt of the training samples");
    field("max_tokens", max_tokens, between(1, 1 << 20),
          "longest answer; what was cut there says finish_reason length");
    field("temperature", temperature, between(0, 100), "0 = the likeliest tokens");
    field("top_p", top_p, between(0, 1),
          "drawn from the likeliest tokens with this share of the probability");
    field("seed", seed, at_least(0), "sent with each request, another one for each answer");
  }
};

}  // namespace retort
