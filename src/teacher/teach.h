// Asks a teacher about samples and keeps the answers.
#pragma once
#include <functional>

#include "models/model.h"
#include "teacher/teacher_cache.h"

namespace retort {

class Peers;  // base/peers.h

// A teacher in memory.
struct Teacher {
  LoadedModel loaded;
  at::ScalarType compute = at::kFloat;
  int64_t vocabulary = 0;  // tokens of the tokenizer; what matrices have beyond is padding
};
ModelSpec model_spec(const TeacherSpec& spec);
// `cache`: where "auto" arithmetic is taken from when a build there began. Whoever asks for the hash of its
// files begins it.
Teacher load_teacher(const TeacherSpec& spec, const std::filesystem::path& cache,
                     at::Device device = at::kCPU);
TeacherIdentity identity_of(const TeacherSpec& spec, const Teacher& teacher, const ChatTemplate& chat,
                            double temperature);

struct TeachProgress {
  size_t parts_done = 0, parts = 0;
  int64_t positions = 0, positions_done = 0;  // of the missing parts; done in this session
  int64_t tokens = 0;                         // rows that went through the teacher in this session
};

struct TeachJob {
  const Model& teacher;
  at::ScalarType compute = at::kFloat;
  int64_t vocabulary = 0;  // tokens of the teacher, which `samples` are made of
  double temperature = 1;
  Samples samples;
  std::filesystem::path folder;
  Provenance made_from;
  KeepSpec keep;
  int64_t row_tokens = 1024;
  int64_t threads = 0;
  int64_t shard = 0, shards = 1;  // this process makes the parts whose number is `shard` modulo `shards`
  // Ranks that ask together: the forests of each part are divided, and rank 0 makes what it misses.
  Peers* peers = nullptr;
};

// Numbers of the missing parts that are this process's to make, counted in `state`.
std::vector<size_t> parts_to_make(const TeacherCache& cache, const CachePlan& plan, int64_t shard,
                                  int64_t shards, TeachProgress& state);

// Makes the parts that are missing; Stopped between two parts when a signal came. A part that is there but
// damaged is an error, never overwritten. Returns what this session did; where one of several ranks was asked
// to stop, rank 0 throws Stopped and the others return.
TeachProgress teach(const TeachJob& job, const std::function<void(const TeachProgress&)>& progress = nullptr);

// A whole cache, or FormatError that says how much of it is there.
std::shared_ptr<const TeacherCache> open_whole_cache(const TeachJob& job);

// The rows of one part, in the order of its positions.
std::vector<BitWriter> teach_part(const TeachJob& job, const CachePlan& plan, size_t part,
                                  int64_t* tokens = nullptr);

}  // namespace retort
