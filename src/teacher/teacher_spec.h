// The `teacher:` section of a recipe.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "spec/fields.h"
#include "teacher/server_spec.h"

namespace retort {

// What a cache keeps of each distribution.
struct KeepSpec {
  int64_t head = 6;
  int64_t draws = 7;
  int64_t precision = 12;
  int64_t part_positions = 8192;
  int64_t seed = 7;

  template <class Visitor> void fields(Visitor& field) {
    field(
        "head", head, between(1, 1 << 20),
        "the largest probabilities kept of each position; fewer where they hold 99.9 % of the mass already");
    field("draws", draws, between(0, 255),
          "random draws of the rest, kept with counts and unbiased (arXiv:2503.16870); 0 = the rest is one "
          "bucket, top-k distillation");
    field("precision", precision, between(8, 24),
          "bits of a probability, rounded at random so that its mean is exact; 12 = within 0.35 % each");
    field("part_positions", part_positions, between(64, 1 << 20),
          "positions of one file of the cache, at least: what a killed build loses");
    field("seed", seed, at_least(0), "of the draws");
  }
};

struct TeacherSpec {
  std::string path;
  std::string url;
  std::string distillkit;
  ServerSpec server;
  std::optional<AnswersSpec> answers = {};
  std::string weights = "keep";
  std::string compute = "auto";
  std::string schedule = "auto", memory = "", scratch = "";
  std::string chat_template = "auto";
  std::string cache;
  bool live = false;
  KeepSpec keep;
  int64_t pass_tokens = 1024;
  int64_t threads = 0;

  // A model on this machine, which can be asked anything at any time.
  bool at_hand() const { return url.empty() && distillkit.empty(); }

  template <class Visitor> void fields(Visitor& field) {
    field("path", path, any(), "the teacher: a model folder or .gguf file");
    field("url", url, any(),
          "or a teacher behind an OpenAI-compatible server: its address up to and with /v1, e.g. "
          "http://127.0.0.1:8000/v1. The program retort-online asks it, and no other host");
    field("distillkit", distillkit, any(),
          "or what a teacher said elsewhere: a folder that DistillKit wrote (data_N.parquet, "
          "compression_config.yaml). The program retort-import fills the cache from it");
    field.section("server", server, "how the server at url is asked");
    field.section(
        "answers", answers,
        "the server writes answers to the prompts of the training samples instead of giving probabilities");
    field("weights", weights,
          one_of({"keep", "f32", "bf16", "nf4", "int8", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k",
                  "q5_k", "q6_k"}),
          "how its linear layers are held in memory; keep = as the file stores them");
    field("compute", compute, one_of({"auto", "f32", "bf16"}), "arithmetic of its activations");
    field("schedule", schedule, one_of({"auto", "tokens", "layers"}),
          "as model.schedule: layers reads a teacher that is larger than memory layer by layer");
    field("memory", memory, any(), "as model.memory");
    field("scratch", scratch, any(), "as model.scratch");
    field("template", chat_template, not_empty(),
          "a teacher with another tokenizer: its chat template by name; auto: by the hash of its own");
    field("cache", cache, any(),
          "folder that keeps what it said, made or completed when needed; empty = inside the run's folder");
    field("live", live, any(), "no cache: the teacher stays in memory and is asked at every step");
    field.section("keep", keep, "what the cache keeps of each position");
    field("pass_tokens", pass_tokens, between(16, 1 << 20), "tokens of one teacher pass at most");
    field("threads", threads, between(0, 1024), "teacher passes at the same time; 0 = one a core");
  }
};

}  // namespace retort
