// YAML tree -> specs. The schema is closed: what is not a field is an error. All problems are found before
// anything is reported.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "spec/spec_visitor.h"
#include "spec/yaml.h"

namespace retort {

class SpecReader : public SpecVisitor {
 public:
  // What an unknown key of a section is elsewhere, as words behind "unknown key; "; "" where it is nothing.
  // `with_ours`: only where a key of the schema does its work.
  using Elsewhere =
      std::function<std::string(const std::string& section, const std::string& key, bool with_ours)>;
  // `root` must outlive the reader. `paths`: every key path of the schema, for suggestions across sections.
  SpecReader(const YamlNode& root, std::vector<std::string> paths, std::vector<Problem>& problems,
             Elsewhere elsewhere = nullptr);
  void finish();  // reports unknown keys of the outermost map

 protected:
  void on_field(const std::string& name, Field field, const Rule& rule,
                const std::string& documentation) override;
  bool enter_section(const std::string& name, bool always, bool present,
                     const std::string& documentation) override;
  void leave_section() override;
  size_t enter_list(const std::string& name, size_t count, const std::string& documentation) override;
  void leave_list() override;
  void enter_item(size_t index) override;
  void leave_item() override;

 private:
  struct Level {
    const YamlNode* node;  // nullptr: not written
    Place place;           // of the node, or of the nearest enclosing one
    std::string path;
    std::vector<std::string> known;
    bool is_map = false;  // otherwise a wrong kind, already reported, or a list
  };
  void push(const YamlNode* node, const std::string& path);
  void pop();
  const YamlNode* take(const std::string& name);
  std::string path_of(const std::string& name) const;
  void add(const Place& place, const std::string& path, const std::string& text);
  std::string suggestion(const Level& level, const YamlEntry& entry) const;

  std::vector<Level> levels_;
  std::vector<std::string> paths_;
  std::vector<Problem>& problems_;
  const Elsewhere elsewhere_;
};

// "PLACE: text" lines in the order of the file, then "N problems; nothing was loaded or written."; throws
// nothing when empty.
void throw_if_any(std::vector<Problem> problems);

}  // namespace retort
