# SPDX-License-Identifier: MIT
#
# Completion of osmem(1) for fish. Behind the program that is run, the
# program's own completion takes over.

# The words from the program on, of those in front of the cursor.
function __osmem_program_words
    set -l words (commandline -opc)
    set -e words[1..2]
    while set -q words[1]
        switch $words[1]
            case --
                set -e words[1]
                break
            case -o --from --to --timeout
                set -e words[1]
                set -q words[1]; or return
            case '-*'
            case '*'
                break
        end
        set -e words[1]
    end
    set -q words[1]; and printf '%s\n' $words
    return 0
end

# Whether the word under the cursor is still one of osmem's own, behind one of
# these subcommands.
function __osmem_in
    set -l words (commandline -opc)
    contains -- "$words[2]" $argv; or return 1
    contains -- -- $words; and return 1
    test -z "$(__osmem_program_words)"
end

function __osmem_complete_program
    set -l words (string escape -- (__osmem_program_words))
    complete -C "$(string join ' ' -- $words (commandline -ct))"
end

# key=value,key=value
function __osmem_options
    set -l before (commandline -ct | string replace -r '[^,]*$' '')
    printf "$before%s\n" \
        mode={exact,auto,fast} die={0,1} warn={0,1} \
        break={auto,always,never} check= stats={no,exit} \
        hot_after= grow_after= cache_after= \
        foreign={abort,warn,ignore} sites={0,1} harden={0,1,2} \
        fail={no,nth:,every:,p=} deepbind={0,1} purger={0,1} help
end

complete -c osmem -f
complete -c osmem -n __fish_is_first_token -a run \
    -d 'Run a program on the library'
complete -c osmem -n __fish_is_first_token -a torture \
    -d 'Let each allocation of a program fail'
complete -c osmem -n __fish_is_first_token -a doctor \
    -d 'Print what the library sees'
complete -c osmem -n __fish_is_first_token -l version -d 'Print the version'
complete -c osmem -n __fish_is_first_token -l help -d 'Print a summary'
complete -c osmem -n '__osmem_in run torture' -s o -x -a '(__osmem_options)' \
    -d 'Options of the allocator'
complete -c osmem -n '__osmem_in run' -l stats \
    -d 'Print statistics when the program ends'
complete -c osmem -n '__osmem_in torture' -l from -x \
    -d 'The first allocation to fail'
complete -c osmem -n '__osmem_in torture' -l to -x \
    -d 'The last allocation to fail'
complete -c osmem -n '__osmem_in torture' -l timeout -x \
    -d 'Seconds after which the program hangs'
complete -c osmem -n '__osmem_in torture' -l verbose \
    -d 'Show what the program prints'
complete -c osmem -n '__fish_seen_subcommand_from run torture' \
    -a '(__osmem_complete_program)'
