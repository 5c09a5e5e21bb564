// Chat templates in Jinja, evaluated by llama.cpp's interpreter in child processes that can do nothing else.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace retort {

// Text that came out of a template: its own, or what it was given.
struct RenderedPart {
  std::string text;
  bool given = false;
};

struct Rendering {
  std::vector<RenderedPart> parts;
  std::string problem;  // why there is none
};

// A conversation and what of it is to be rendered.
struct RenderJob {
  std::vector<std::string> messages;  // each a JSON object
  std::string beside;                 // members of a JSON object: tools, documents, switches
  struct Wanted {
    uint32_t messages;  // so many of them
    bool reply_header;
  };
  std::vector<Wanted> wanted;
};

// What a template may use: one conversation's time and memory, beyond those of this process.
inline constexpr int kTemplateSeconds = 10;
inline constexpr uint64_t kTemplateMemory = uint64_t{512} << 20;
inline constexpr size_t kLongestTemplate = size_t{1} << 20;        // bytes of its source
inline constexpr size_t kDeepestTemplate = 200;                    // levels of brackets and blocks
inline constexpr uint64_t kLongestRendering = uint64_t{64} << 20;  // bytes

// Whether beginnings of a conversation may come out of the run over all of it (template_turns.h) or are
// rendered one by one; the texts are the same.
enum class Beginnings : uint8_t { shared, alone };

class TemplateEngine {
 public:
  // `tokens`: names and spellings, {"bos_token", "<s>"}. RecipeError for a source that is too long or nested
  // too deeply; whether it can be read at all says the first rendering.
  TemplateEngine(std::string source, std::vector<std::pair<std::string, std::string>> tokens,
                 int seconds = kTemplateSeconds, Beginnings beginnings = Beginnings::shared);
  ~TemplateEngine();
  TemplateEngine(const TemplateEngine&) = delete;
  TemplateEngine& operator=(const TemplateEngine&) = delete;

  // All that the jobs want, in their order, by one child at a time. Templates that loop, grow or crash the
  // child are a problem of the rendering in which they did. Several threads may call it, each has a child.
  std::vector<std::vector<Rendering>> render(std::span<const RenderJob> jobs) const;

  const std::string& source() const { return source_; }
  // How many renderings needed no run of their own so far.
  uint64_t shared() const { return shared_; }

 private:
  class Child;
  std::unique_ptr<Child> borrow() const;
  std::string source_;
  std::vector<std::pair<std::string, std::string>> tokens_;
  int seconds_;
  Beginnings beginnings_;
  mutable std::atomic<uint64_t> shared_ = 0;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Child>> idle_;
};

}  // namespace retort
