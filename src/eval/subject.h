// What is being evaluated, and how it runs.
#pragma once
#include "eval/result.h"
#include "generate/generate.h"
#include "models/model.h"
#include "text/thoughts.h"

namespace retort {

struct Company;  // eval/company.h

struct Subject {
  const Model& model;
  const Tokenizer& tokenizer;
  const ChatTemplate* chat = nullptr;  // nullptr: prompts are plain text
  at::ScalarType compute = at::kFloat;
  int64_t threads = 0;               // 0 = all
  int64_t row_tokens = 1024;         // rows of one pass
  int64_t batch = 32;                // answers generated together
  std::string kv = "auto";           // how caches are held: kv_type()
  const Company* company = nullptr;  // who computes a part of the likelihoods
};

// Log-probability (nats) of every supervised token of every sample, summed with the samples' weights, over
// forests that share what the samples share.
struct SampleLikelihood {
  double log_probability = 0;  // sum of w log p
  double weight = 0;           // sum of w
  int64_t tokens = 0;          // supervised tokens
  int64_t correct = 0;         // of them the arg max
};
std::vector<SampleLikelihood> likelihoods(const Subject& subject, const std::vector<Sample>& samples);

// The template, or plain text.
const ChatTemplate& chat_of(const Subject& subject);

// An answer's text in which the control tokens that mark thoughts are spelled out: Magistral's are, and some
// folders call <think> one. `own`: marks of the template itself (template_thoughts.h).
std::string marked_text(const Tokenizer& tokenizer, const Answer& answer, const ThoughtMarks& own);

// What a model said after `prompt`, without what it thought. `answer`: a marked_text().
std::string spoken(const Tokenizer& tokenizer, const std::vector<int32_t>& prompt, const std::string& answer,
                   const ThoughtMarks& own);

// The subject as generate() takes it.
Writer writer_of(const Subject& subject);

}  // namespace retort
